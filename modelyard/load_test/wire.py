"""All messages between ``modelyard load-test`` and the processes that send its requests.

Each is msgpack behind its length. Times are seconds after the start of the run, or before it.
"""

from __future__ import annotations

from typing import IO

import msgspec

from modelyard.load_test.place import Place
from modelyard.load_test.plan import Plan

_LENGTH_BYTES = 8


class Body(msgspec.Struct, frozen=True):
    """What is sent: ``data``, or what ``file`` holds."""

    data: bytes = b""
    file: str = ""
    content_type: str | None = None


class Job(msgspec.Struct, frozen=True, tag="job"):
    """To a sender: the part ``part`` of ``parts`` of the plan. ``workers`` are at most in flight.

    ``targets`` are the TargetModels by number, "" for an endpoint of one model. ``bodies`` is one
    for all models, or one for each. A pause of 0 takes "not ready" for an error.
    """

    endpoint: str
    place: Place
    plan: Plan
    targets: list[str]
    bodies: list[Body]
    accept: str | None
    target_variant: str | None
    part: int
    parts: int
    workers: int
    warm_up: int
    patience_seconds: float
    not_ready_pause_seconds: float


class Start(msgspec.Struct, frozen=True, tag="start"):
    """To a sender: the run starts at this moment of the monotonic clock, which all share."""

    at: float


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """To a sender: begin no more requests, and say when those that run are done."""


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """From a sender: what became of a request.

    ``kind`` is "" for one that was answered, else the error's, with its ``words`` when it is the
    sender's first. ``loading_wait`` is what the endpoint says it waited for its model, None where
    it does not say. ``crowded`` marks one that began late because too many were in flight.
    """

    model: int
    first: bool
    planned: float
    begun: float
    done: float
    loading_wait: float | None
    not_ready: int
    crowded: bool
    kind: str = ""
    words: str = ""
    hopeless: bool = False


class Batch(msgspec.Struct, frozen=True, tag="batch"):
    """From a sender, several times a second: what is new, and how many are in flight."""

    outcomes: list[Outcome]
    in_flight: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """From a sender: it has warmed up and waits for ``Start``."""


class Done(msgspec.Struct, frozen=True, tag="done"):
    """From a sender: all is sent and answered. ``unsent`` had a time and no chance to begin."""

    unsent: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """From a sender: it cannot send anything, and why."""

    words: str


ToSender = Job | Start | Stop
FromSender = Batch | Ready | Done | Refused


class Channel:
    """One end of the two pipes. ``read`` returns None when the other end is gone."""

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self._reader = reader
        self._writer = writer
        self._encoder = msgspec.msgpack.Encoder()

    def send(self, message: ToSender | FromSender) -> None:
        """Raises BrokenPipeError when the other end is gone."""
        content = self._encoder.encode(message)
        self._writer.write(len(content).to_bytes(_LENGTH_BYTES, "big") + content)
        self._writer.flush()

    def read(self) -> bytes | None:
        """The next message, to be decoded."""
        length = self._reader.read(_LENGTH_BYTES)
        if len(length) < _LENGTH_BYTES:
            return None
        size = int.from_bytes(length, "big")
        content = self._reader.read(size)
        return content if len(content) == size else None

    def close(self) -> None:
        """Hang up."""
        self._writer.close()
        self._reader.close()


to_sender = msgspec.msgpack.Decoder(ToSender)
from_sender = msgspec.msgpack.Decoder(FromSender)
