"""All messages between Modelyard's processes, and how they are framed. No pickle, no exceptions.

A frame on a stream socket is a 12-byte prefix (length of the head, length of the body), the head
(a msgpack-encoded struct) and the body (raw bytes, never looked into). Zygote channels keep
message boundaries themselves and carry bare structs.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import msgspec

from handlers.types import HandlerOptions, ModelPlan, Resources
from model_server.errors import Problem
from model_server.memory.decisions import Decision

PREFIX = struct.Struct("<IQ")

# Below this, head and body are sent as one: a copy costs less than gathering two buffers.
JOINED_BYTES = 64 * 1024
# Asked of the kernel for larger ones, which grants twice its default: fewer rounds.
LARGE_SEND_BYTES = 1024 * 1024


# --- gateway -> worker -> gateway: one request per connection ---------------------------------


class InvokeHead(msgspec.Struct, array_like=True, frozen=True):
    """A request. ``key`` is unique to it; ``sent_ns`` is CLOCK_MONOTONIC, as on the whole host."""

    key: int
    sent_ns: int
    request_id: str
    headers: tuple[tuple[str, str], ...]


class ReplyHead(msgspec.Struct, array_like=True, frozen=True):
    """An answer; with ``kind`` it is an error, and the body is its message.

    With ``streams`` the body is a first chunk. Others follow, each a prefix (no head) and its
    bytes; an empty one is the end, and a frame with a head is an error in the middle.
    """

    status: int
    content_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    kind: str = ""
    streams: bool = False


# --- gateway -> controller ---------------------------------------------------------------------


class Ping(msgspec.Struct, tag=True, frozen=True):
    """Is the server ready for traffic?"""


class Load(msgspec.Struct, tag=True, frozen=True):
    """Load the model in directory ``url`` under ``name``."""

    name: str
    url: str


class Unload(msgspec.Struct, tag=True, frozen=True):
    """Unload; answered when the memory is back."""

    name: str


class Get(msgspec.Struct, tag=True, frozen=True):
    """Describe one model."""

    name: str


class List(msgspec.Struct, tag=True, frozen=True):
    """List models by name, after ``token``."""

    limit: int
    token: str | None


class Ensure(msgspec.Struct, tag=True, frozen=True):
    """Make the model hot; answered when its socket is there, or with the reason why not."""

    name: str


class Fate(msgspec.Struct, tag=True, frozen=True):
    """The worker that had request ``key`` hung up: why?"""

    name: str
    key: int


class Metrics(msgspec.Struct, tag=True, frozen=True):
    """Everything counted, in Prometheus' text format."""


class ShowMemory(msgspec.Struct, tag=True, frozen=True):
    """Ledgers, models and what other policies would have cost."""


class ShowDecisions(msgspec.Struct, tag=True, frozen=True):
    """The newest decisions, or those that concern one model."""

    model_name: str | None
    limit: int


class MakeRoom(msgspec.Struct, tag=True, frozen=True):
    """The model's device was out of memory during an invoke: free some of it for another try."""

    name: str


class GatewayCounts(msgspec.Struct, tag=True, frozen=True):
    """What a gateway served since its last report: route, status, requests, seconds, buckets.

    ``limits_seen`` is the version of the time limits that it knows.
    """

    pid: int
    in_flight: int
    limits_seen: int
    served: list[tuple[str, int, int, float, tuple[int, ...]]]


Command = (
    Ping
    | Load
    | Unload
    | Get
    | List
    | Ensure
    | Fate
    | Metrics
    | ShowMemory
    | ShowDecisions
    | MakeRoom
    | GatewayCounts
)


# --- controller -> gateway ---------------------------------------------------------------------


class Done(msgspec.Struct, tag=True, frozen=True):
    """It worked."""


class WorkerInfo(msgspec.Struct, frozen=True, rename="camel"):
    """One process of a model."""

    pid: int
    busy: bool
    requests: int
    private_bytes: int


class ModelServing(msgspec.Struct, frozen=True, rename="camel"):
    """The settings that a model is served with."""

    min_workers: int
    max_workers: int
    batch_size: int
    max_batch_delay_ms: float
    request_timeout_seconds: float
    threads: int
    device: str
    pinned: bool
    max_memory_bytes: int


class ModelInfo(msgspec.Struct, frozen=True, rename="camel"):
    """One model, as ``GET /models/{name}`` shows it."""

    model_name: str
    model_url: str
    state: str
    framework: str
    interface: str
    load_seconds: float
    private_bytes: int
    restarts: int
    workers: list[WorkerInfo]
    template_pid: int | None
    environment: str | None
    gpu: int | None
    settings: ModelServing


class ModelFound(msgspec.Struct, tag=True, frozen=True):
    """The answer to ``Get``."""

    model: ModelInfo


class ModelSummary(msgspec.Struct, frozen=True, rename="camel"):
    """One line of the list of models."""

    model_name: str
    model_url: str


class ModelPage(msgspec.Struct, tag=True, frozen=True):
    """A page of the list; ``token`` is for the next one, None on the last."""

    models: list[ModelSummary]
    token: str | None


class FateFound(msgspec.Struct, tag=True, frozen=True):
    """Why the request failed, or None when it never started and may be sent again."""

    problem: Problem | None


class Limits(msgspec.Struct, tag=True, frozen=True):
    """The answer to ``GatewayCounts``: time limits of models that have one of their own.

    ``seconds`` is None when the gateway knows this version.
    """

    version: int
    seconds: dict[str, float] | None


class Text(msgspec.Struct, tag=True, frozen=True):
    """A text body."""

    text: str


class Failed(msgspec.Struct, tag=True, frozen=True):
    """It did not work."""

    problem: Problem


class LedgerInfo(msgspec.Struct, frozen=True, rename="camel"):
    """One kind of memory: "ram" or "gpu0". ``free_bytes`` below 0: models have grown too large."""

    name: str
    limit_bytes: int
    overhead_bytes: int
    held_bytes: int
    leaving_bytes: int
    free_bytes: int


class ModelMemory(msgspec.Struct, frozen=True, rename="camel"):
    """What a model holds, or held when it was last in memory, and what bringing it back takes.

    ``worth`` is the policy's, None for a model that is not in memory; ``idle_seconds`` None for
    one that was never used. A ``busy`` one cannot leave now.
    """

    model_name: str
    state: str
    framework: str
    pinned: bool
    held_bytes: dict[str, int]
    reload_seconds: float
    uses: int
    uses_per_hour: float
    idle_seconds: float | None
    worth: float | None
    evictions: int
    busy: bool = False


class ShadowInfo(msgspec.Struct, frozen=True, rename="camel"):
    """What a policy would have cost if it had decided: uses that found the model, and not."""

    policy: str
    hits: int
    misses: int
    reload_seconds: float


class MemoryInfo(msgspec.Struct, tag=True, frozen=True, rename="camel"):
    """The answer to ``ShowMemory``: ``GET /memory``."""

    policy: str
    thrashing: bool
    ledgers: list[LedgerInfo]
    models: list[ModelMemory]
    shadows: list[ShadowInfo]


class DecisionsFound(msgspec.Struct, tag=True, frozen=True):
    """The answer to ``ShowDecisions``, the newest first."""

    decisions: list[Decision]


Answer = (
    Done | ModelFound | ModelPage | FateFound | Limits | Text | MemoryInfo | DecisionsFound | Failed
)


# --- controller <-> zygote, worker -> controller -----------------------------------------------


class ZygoteSpec(msgspec.Struct, frozen=True):
    """What a zygote is started with. Descriptors are inherited ones."""

    framework: str
    control_fd: int
    lifeline_fd: int
    stats_path: str
    log_level: str
    log_format: str


class WorkerSpec(msgspec.Struct, tag=True, frozen=True):
    """Fork a worker. Its listening socket and its leash come along, in this order.

    A ``template`` forks further workers from the loaded model if that is safe. With
    ``data_limit_bytes`` the kernel refuses the process more memory than about that.
    """

    worker_id: int
    slot: int
    model_name: str
    plan: ModelPlan
    options: HandlerOptions
    resources: Resources = Resources()
    template: bool = False
    data_limit_bytes: int | None = None


class ZygoteReady(msgspec.Struct, tag=True, frozen=True):
    """The zygote has imported everything and can fork."""

    seconds: float
    private_bytes: int


class ZygoteFailed(msgspec.Struct, tag=True, frozen=True):
    """The framework cannot be imported."""

    message: str


class Forked(msgspec.Struct, tag=True, frozen=True):
    """A worker is there."""

    worker_id: int
    pid: int


class ForkFailed(msgspec.Struct, tag=True, frozen=True):
    """The kernel refused to fork."""

    worker_id: int
    message: str


class Exited(msgspec.Struct, tag=True, frozen=True):
    """A child of the zygote is gone; ``code`` as in ``subprocess``: negative is a signal."""

    pid: int
    code: int


ZygoteMessage = ZygoteReady | ZygoteFailed | Forked | ForkFailed | Exited


class WorkerReady(msgspec.Struct, tag=True, frozen=True):
    """The model is loaded. With ``can_fork`` the process serves nothing and forks workers.

    With ``can_park`` its device memory can be released, and the process kept. ``passing_bytes`` are
    what the load took at its height and has given back.
    """

    seconds: float
    private_bytes: int
    can_fork: bool = False
    can_park: bool = False
    passing_bytes: int = 0


class WorkerFailed(msgspec.Struct, tag=True, frozen=True):
    """The model could not be loaded."""

    problem: Problem


class Moved(msgspec.Struct, tag=True, frozen=True):
    """The answer to ``Park`` and ``Restore``; ``problem`` says why it did not work."""

    seconds: float
    private_bytes: int
    problem: Problem | None = None


WorkerMessage = WorkerReady | WorkerFailed | Moved


# --- controller -> worker, on its leash ----------------------------------------------------------


class Park(msgspec.Struct, tag=True, frozen=True):
    """Finish what is queued, then move the weights to the host and release device memory."""


class Restore(msgspec.Struct, tag=True, frozen=True):
    """Move the weights back to the device."""


WorkerOrder = Park | Restore


# --- framing -----------------------------------------------------------------------------------

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
decode_invoke = msgspec.msgpack.Decoder(InvokeHead).decode
decode_reply = msgspec.msgpack.Decoder(ReplyHead).decode
decode_worker_spec = msgspec.msgpack.Decoder(WorkerSpec).decode
decode_zygote_message = msgspec.msgpack.Decoder(ZygoteMessage).decode
decode_worker_order = msgspec.msgpack.Decoder(WorkerOrder).decode
decode_worker_message = msgspec.msgpack.Decoder(WorkerMessage).decode
_decode_command: Callable[[bytes], Command] = msgspec.msgpack.Decoder(Command).decode
_decode_answer: Callable[[bytes], Answer] = msgspec.msgpack.Decoder(Answer).decode


def frame_head(head: msgspec.Struct, body_bytes: int) -> bytes:
    """Prefix and head of a frame whose body has ``body_bytes`` bytes and is sent after it."""
    encoded = encode(head)
    return PREFIX.pack(len(encoded), body_bytes) + encoded


class Hangup(ConnectionError):
    """Raised when the peer closes before a whole frame is there."""


class Receiver:
    """Reads frames from one connection after another, into a buffer that it keeps.

    Bodies of up to ``KEPT_BYTES`` are received into it and copied out once. A buffer for each would
    be new memory each time, which the kernel has to clear page by page: at 1 MiB that costs more
    than everything else.
    """

    KEPT_BYTES = 4 << 20

    def __init__(self) -> None:
        self._buffer = bytearray(64 * 1024)

    def receive(self, connection: socket.socket) -> tuple[bytes, bytes]:
        """Block until a frame is there; its head and its body. Raises Hangup."""
        got = connection.recv_into(self._buffer)
        if got == 0:
            raise Hangup("peer closed without a frame")
        if got < PREFIX.size:
            got = self._fill(connection, got, PREFIX.size)
        head_bytes, body_bytes = PREFIX.unpack_from(self._buffer)
        start = PREFIX.size + head_bytes
        end = start + body_bytes
        if got < end:
            self._fill(connection, got, end)
        view = memoryview(self._buffer)
        head, body = bytes(view[PREFIX.size : start]), bytes(view[start:end])
        view.release()
        if end > self.KEPT_BYTES:
            self._buffer = bytearray(64 * 1024)
        return head, body

    def _fill(self, connection: socket.socket, got: int, wanted: int) -> int:
        """Read until ``wanted`` bytes are in the buffer; returns how many are."""
        if len(self._buffer) < wanted:
            self._buffer.extend(bytes(wanted - len(self._buffer)))
        with memoryview(self._buffer) as view:
            while got < wanted:
                read = connection.recv_into(view[got:wanted])
                if read == 0:
                    raise Hangup(f"peer closed after {got} of {wanted} bytes")
                got += read
        return got


async def read_command(reader: asyncio.StreamReader) -> Command:
    """The command a gateway sent to the controller."""
    return _decode_command(await _read_message(reader))


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """The controller's answer."""
    return _decode_answer(await _read_message(reader))


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    head_bytes, _ = PREFIX.unpack(await reader.readexactly(PREFIX.size))
    return await reader.readexactly(head_bytes)


def message(content: msgspec.Struct) -> bytes:
    """A frame without a body."""
    return frame_head(content, 0)
