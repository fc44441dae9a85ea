"""A process that sends its part of a plan: ``python -m modelyard.load_test.sender``.

It reads a ``Job`` from standard input, and ends at once when that is closed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from botocore.exceptions import BotoCoreError

from modelyard.load_test.plan import Plan, Planned
from modelyard.load_test.requester import Requester
from modelyard.load_test.wire import (
    Batch,
    Channel,
    Done,
    Job,
    Outcome,
    Ready,
    Refused,
    Start,
    Stop,
    to_sender,
)

# How often the parent is told what is new.
_TELL_SECONDS = 0.2

# Requests whose time has come may begin for so long after the end.
_GRACE_SECONDS = 1.0

# In a closed loop, what comes after a request that nobody was there to answer.
_HOPELESS_PAUSE_SECONDS = 0.1


class Sender:
    """Sends a job's requests by threads, and tells of them. ``run`` returns when all is done."""

    def __init__(self, job: Job, tell: Callable[[Batch | Ready | Done], None]) -> None:
        self.started = threading.Event()
        self.stopped = threading.Event()
        self.start_at = time.monotonic()
        self._job = job
        self._tell = tell
        self._requester = Requester(job, self.stopped)
        self._outcomes: list[Outcome] = []
        self._told_kinds: set[str] = set()
        self._in_flight = 0
        self._lock = threading.Lock()
        self._over = threading.Event()

    def run(self) -> None:
        """Warm up, wait for the start, and send."""
        teller = threading.Thread(target=self._tell_often)
        teller.start()
        unsent, job = 0, self._job
        known = bytearray(job.plan.models)
        try:
            if job.warm_up:
                self._closed_loop(self._part(job.plan.warm_up(job.warm_up), known))
            self._tell_new()
            self._tell(Ready())
            self.started.wait()
            requests = self._part(job.plan, known)
            if job.plan.open_loop:
                unsent = self._open_loop(requests)
            else:
                self._closed_loop(requests, job.plan.duration_seconds)
        finally:
            self._over.set()
            teller.join()
            self._requester.close()
        self._tell_new()
        self._tell(Done(unsent))

    def _part(self, plan: Plan, known: bytearray) -> Iterator[Planned]:
        return islice(plan.planned(known), self._job.part, None, self._job.parts)

    def _now(self) -> float:
        return time.monotonic() - self.start_at

    # --- one after the other ----------------------------------------------------------------------

    def _closed_loop(self, requests: Iterator[Planned], seconds: float | None = None) -> None:
        def work() -> None:
            while not self.stopped.is_set() and (seconds is None or self._now() < seconds):
                with self._lock:
                    planned = next(requests, None)
                if planned is None:
                    return
                if self._send(planned, self._now(), crowded=False).hopeless:
                    self.stopped.wait(_HOPELESS_PAUSE_SECONDS)

        with ThreadPoolExecutor(self._job.workers) as pool:
            for worker in [pool.submit(work) for _ in range(self._job.workers)]:
                worker.result()

    # --- each at its time -------------------------------------------------------------------------

    def _open_loop(self, requests: Iterator[Planned]) -> int:
        """How many could not begin before the end."""
        free = threading.BoundedSemaphore(self._job.workers)
        held_up_until = 0.0

        def work(planned: Planned, crowded: bool) -> None:
            try:
                self._send(planned, planned.at, crowded=crowded)
            finally:
                free.release()

        with ThreadPoolExecutor(self._job.workers) as pool:
            for planned in requests:
                self.stopped.wait(max(0.0, planned.at - self._now()))
                if not free.acquire(blocking=False):
                    self._wait_for(free)
                    held_up_until = self._now()
                if self.stopped.is_set():
                    return 0
                if self._too_late():
                    return 1 + sum(1 for _ in requests)
                pool.submit(work, planned, planned.at < held_up_until)
        return 0

    def _wait_for(self, free: threading.Semaphore) -> None:
        """Return when one more may begin, or none may any more."""
        while not free.acquire(timeout=_TELL_SECONDS):
            if self.stopped.is_set() or self._too_late():
                return

    def _too_late(self) -> bool:
        seconds = self._job.plan.duration_seconds
        return seconds is not None and self._now() >= seconds + _GRACE_SECONDS

    # --- what became of them ----------------------------------------------------------------------

    def _send(self, planned: Planned, at: float, *, crowded: bool) -> Outcome:
        with self._lock:
            self._in_flight += 1
        begun = self._now()
        answer = self._requester.send(planned.model)
        done = self._now()
        with self._lock:
            self._in_flight -= 1
            words = "" if answer.kind in self._told_kinds else answer.words
            self._told_kinds.add(answer.kind)
            outcome = Outcome(
                model=planned.model,
                first=planned.first,
                planned=at,
                begun=begun,
                done=done,
                loading_wait=answer.loading_wait,
                not_ready=answer.not_ready,
                crowded=crowded,
                kind=answer.kind,
                words=words,
                hopeless=answer.hopeless,
            )
            self._outcomes.append(outcome)
        return outcome

    def _tell_often(self) -> None:
        while not self._over.wait(_TELL_SECONDS):
            self._tell_new()

    def _tell_new(self) -> None:
        with self._lock:
            outcomes, self._outcomes = self._outcomes, []
            in_flight = self._in_flight
        self._tell(Batch(outcomes, in_flight))


def main() -> None:
    """The process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is our parent who decides about the end
    channel = Channel(sys.stdin.buffer, sys.stdout.buffer)
    lock = threading.Lock()

    def tell(message: Batch | Ready | Done | Refused) -> None:
        with lock:
            try:
                channel.send(message)
            except BrokenPipeError:
                os._exit(1)

    content = channel.read()
    job = None if content is None else to_sender.decode(content)
    if not isinstance(job, Job):
        os._exit(1)
    try:
        sender = Sender(job, tell)
    except (BotoCoreError, ValueError) as error:
        tell(Refused(str(error)))
        os._exit(0)
    threading.Thread(target=_to_the_end, args=(sender,)).start()
    while (content := channel.read()) is not None:
        match to_sender.decode(content):
            case Start(at):
                sender.start_at = at
                sender.started.set()
            case Stop():
                sender.stopped.set()
                sender.started.set()
    os._exit(0)


def _to_the_end(sender: Sender) -> None:
    """A fault must not leave the parent waiting."""
    try:
        sender.run()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    main()
