"""The processes that send, seen from the command: started, heard, stopped."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

from modelyard.load_test.wire import (
    Batch,
    Channel,
    Done,
    FromSender,
    Job,
    Ready,
    Refused,
    Start,
    Stop,
    ToSender,
    from_sender,
)

# All senders have heard of the start when it comes.
_HEAD_START_SECONDS = 0.05


class SenderFailed(Exception):
    """Raised when a sender cannot begin; the text tells why."""


class Senders:
    """A process for each job. ``heard`` hands on their batches until all are done.

    After the run ``unsent`` is how many requests had no chance to begin, and ``lost`` how many
    senders ended before their work was done.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.unsent = 0
        self.lost = 0
        self.started_at = time.monotonic()
        self._jobs = jobs
        self._in_flight = [0] * len(jobs)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._channels: list[Channel] = []
        self._readers: list[threading.Thread] = []
        self._queue: SimpleQueue[tuple[int, FromSender | None]] = SimpleQueue()
        self._working = set(range(len(jobs)))
        self._ready: set[int] = set()

    def __enter__(self) -> Self:
        for number, job in enumerate(self._jobs):
            process = subprocess.Popen(
                [sys.executable, "-m", "modelyard.load_test.sender"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the command
            )
            assert process.stdin is not None and process.stdout is not None
            self._processes.append(process)
            self._channels.append(Channel(process.stdout, process.stdin))
            reader = threading.Thread(target=self._read, args=(number,), daemon=True)
            self._readers.append(reader)
            reader.start()
            self._send(number, job)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
        for process, reader, channel in zip(
            self._processes, self._readers, self._channels, strict=True
        ):
            process.wait()
            reader.join()
            with suppress(BrokenPipeError):
                channel.close()

    @property
    def in_flight(self) -> int:
        """How many requests are, as far as it is known."""
        return sum(self._in_flight)

    @property
    def working(self) -> bool:
        """Whether more is to come."""
        return bool(self._working)

    @property
    def warm(self) -> bool:
        """Whether all wait for the start."""
        return self._ready >= self._working

    def start(self) -> None:
        """Have the run start now."""
        self.started_at = time.monotonic() + _HEAD_START_SECONDS
        for number in self._working:
            self._send(number, Start(self.started_at))

    def stop(self) -> None:
        """Have no more requests begin."""
        for number in self._working:
            self._send(number, Stop())

    def heard(self, timeout_seconds: float) -> Batch | None:
        """The next batch; None when there is none in time. Raises SenderFailed."""
        try:
            number, message = self._queue.get(timeout=timeout_seconds)
        except Empty:
            return None
        match message:
            case Batch():
                self._in_flight[number] = message.in_flight
                return message
            case Ready():
                self._ready.add(number)
            case Done(unsent):
                self.unsent += unsent
                self._working.discard(number)
                self._in_flight[number] = 0
            case Refused(words):
                raise SenderFailed(words)
            case None if number in self._working:
                self.lost += 1
                self._working.discard(number)
                self._in_flight[number] = 0
        return None

    def _send(self, number: int, message: ToSender) -> None:
        with suppress(BrokenPipeError):  # its reader tells that it is gone
            self._channels[number].send(message)

    def _read(self, number: int) -> None:
        while (content := self._channels[number].read()) is not None:
            self._queue.put((number, from_sender.decode(content)))
        self._queue.put((number, None))
