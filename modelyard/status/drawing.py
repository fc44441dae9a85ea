"""Endpoints as a terminal shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from modelyard.status import departures, words
from modelyard.status.picture import Endpoint, Model, Piece, Variant
from modelyard.status.words import Bar, Name, Parts

_BAR = 8
_NARROW, _WIDE = 76, 100
_GOOD = frozenset({"InService", "serving"})
_BAD = frozenset({"Failed", "UpdateRollbackFailed", "lost"})
_INDENT = 2


@dataclass(frozen=True, slots=True)
class Room:
    """How wide lines may be, and how many there are for what may be long; of each reason, too."""

    width: int
    models: int
    events: int
    instances: int = 16
    reasons: int = 3


def drawn(endpoints: Sequence[Endpoint], now: float, room: Room) -> RenderableType:
    """All endpoints; ``now`` is the time of the document, in seconds since 1970."""
    if not endpoints:
        return Text("There is no endpoint yet: create one with boto3, or `modelyard up --models`.")
    parts: list[RenderableType] = []
    for endpoint in endpoints:
        if parts:
            parts.append(Text())
        parts.append(_heading(endpoint))
        parts += [_indented(Group(*_variant(one, now, room))) for one in endpoint.variants]
        if room.events and endpoint.departures:
            shown = endpoint.departures[: room.events]
            lines = departures.drawn(shown, room.width - _INDENT, room.reasons)
            parts.append(_indented(Group(*lines)))
    return Group(*parts)


def _heading(endpoint: Endpoint) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    line.add_row(Name(endpoint.name, "bold"), _state(endpoint.status))
    return line


def _variant(variant: Variant, now: float, room: Room) -> Iterator[RenderableType]:
    yield from _totals(variant)
    if variant.instances:
        yield Text()
        yield _instances(variant.instances, room)
    if any(one.get("gpus") for one in variant.instances):
        yield Text()
        yield _gpus(variant.instances, room)
    if not room.models:
        return
    for title, models, columns in (
        ("on their way", variant.coming()[: room.models], _COMING),
        ("hottest", variant.hottest(room.models), _HOTTEST),
        ("coldest in memory", variant.coldest(room.models), _COLDEST),
    ):
        if models:
            yield Text()
            yield _models(title, models, [one for one in columns if room.width >= one.least], now)


def _totals(variant: Variant) -> Iterator[RenderableType]:
    """What a variant does, in words."""
    serving = sum(one.get("state") == "serving" for one in variant.instances)
    wanted = variant.piece.get("desired_instances", len(variant.instances))
    parts = [(variant.name, "bold")]
    if variant.state:
        parts.append((variant.state, "yellow"))
    parts.append((f"{serving} of {wanted} instance{'' if wanted == 1 else 's'} serving", ""))
    if "weight" in variant.piece:
        parts.append((f"weight {variant.piece['weight']:g}", ""))
    yield Parts(*parts)
    metrics = variant.metrics
    if not metrics:
        return
    errors = metrics.get("errors", 0)
    yield Parts(
        (f"{words.rate(metrics.get('invocations_per_second'))} invokes/s", ""),
        (f"{metrics.get('invocations', 0):,} in all", ""),
        (f"{errors:,} failed", "red" if errors else ""),
        (f"{metrics.get('cold_starts', 0):,} cold starts", ""),
        (f"{metrics.get('evictions', 0):,} evictions", ""),
    )
    times = [
        (f"{name} {words.milliseconds(lately['p50'])}, p99 {words.milliseconds(lately['p99'])}", "")
        for name, key in _TIMES
        if (lately := metrics.get(key))
    ]
    if times:
        yield Parts(*times)


_TIMES = (
    ("model p50", "model_latency_ms"),
    ("overhead p50", "overhead_latency_ms"),
    ("cold starts waited p50", "loading_wait_ms"),
)


# --- instances ----------------------------------------------------------------------------------


def _instances(instances: Sequence[Piece], room: Room) -> RenderableType:
    table = _table("instance")
    for title in ("memory", "disk"):
        table.add_column(title, no_wrap=True)
    for title in ("cpu", "runs", "loaded"):
        table.add_column(title, justify="right", no_wrap=True)
    for one in instances[: room.instances]:
        memory, disk = one.get("memory") or {}, one.get("disk") or {}
        table.add_row(
            _instance_name(one),
            _use(memory.get("used"), memory.get("limit"), room.width),
            _use(disk.get("used"), disk.get("budget"), room.width),
            _percent(one.get("cpu_percent")),
            f"{one.get('requests', 0):,}",
            f"{one.get('loaded', 0):,}",
        )
    more = len(instances) - room.instances
    if more > 0:
        table.add_row(Text(f"and {more:,} more", "dim"))
    return table


def _instance_name(instance: Piece) -> RenderableType:
    state = instance.get("state", "")
    if state in _GOOD:
        return Name(instance.get("id", ""))
    line = Table.grid(padding=(0, 1))
    line.add_row(Name(instance.get("id", "")), _state(state))
    return line


def _use(used: float | None, limit: float | None, width: int) -> RenderableType:
    """A bar, and the bytes; on a narrow terminal without the limit, then without the bar."""
    if used is None or not limit:
        return words.shown_bytes(used)
    if width < _NARROW:
        return words.shown_bytes(used)
    line = Table.grid(padding=(0, 1))
    line.add_column(no_wrap=True)
    line.add_column(no_wrap=True)
    of = f" of {words.shown_bytes(limit)}" if width >= _WIDE else ""
    line.add_row(Bar(used, limit, _BAR), words.shown_bytes(used) + of)
    return line


def _gpus(instances: Sequence[Piece], room: Room) -> RenderableType:
    table = _table("gpu")
    table.add_column("memory", no_wrap=True)
    table.add_column("busy", justify="right", no_wrap=True)
    for one in instances[: room.instances]:
        for gpu in one.get("gpus", ()):
            table.add_row(
                Name(f"{one.get('id', '')}  {gpu.get('index')}"),
                _use(gpu.get("used"), gpu.get("limit"), room.width),
                _percent(gpu.get("utilization_percent")),
            )
    return table


def _percent(value: float | None) -> str:
    return words.NOTHING if value is None else f"{value:.0f} %"


# --- models -------------------------------------------------------------------------------------

_Cell = Callable[[Model, float], str]


@dataclass(frozen=True, slots=True)
class _Column:
    """What is told of models; a terminal narrower than ``least`` has room for names instead."""

    title: str
    cell: _Cell
    least: int = 0


def _lately(model: Model, key: str, quantile: str) -> str:
    found = model.figures.get(key)
    return words.milliseconds(found[quantile] if found else None)


def _idle(model: Model, now: float) -> str:
    return words.ago(now - model.last_used if model.last_used else None)


def _where(model: Model, now: float) -> str:
    if model.loaded:
        copies = len(model.loaded)
        return "loaded" if copies == 1 else f"loaded x{copies}"
    if model.coming:
        return str(model.coming[0]["state"])
    return "not loaded"


_RATE = _Column("per s", lambda model, now: words.rate(model.per_second))
_INVOKES = _Column("invokes", lambda model, now: f"{model.invocations:,}")

_HOTTEST = (
    _Column("state", _where, _WIDE),
    _RATE,
    _INVOKES,
    _Column("p50", lambda model, now: _lately(model, "latency_ms", "p50")),
    _Column("p99", lambda model, now: _lately(model, "latency_ms", "p99"), _NARROW),
    _Column("cold", lambda model, now: f"{model.figures.get('cold_starts', 0):,}", _NARROW),
    _Column("failed", lambda model, now: f"{model.figures.get('errors', 0):,}"),
)
_COLDEST = (
    _Column("used", _idle),
    _INVOKES,
    _Column("memory", lambda model, now: words.shown_bytes(model.memory)),
)
_COMING = (
    _Column("state", _where),
    _Column("waiting", lambda model, now: f"{model.waiting:,}"),
)


def _models(
    title: str, models: Sequence[Model], columns: Sequence[_Column], now: float
) -> RenderableType:
    # There is no rate before there were two looks.
    shown = [
        column
        for column in columns
        if column is not _RATE or any(model.per_second is not None for model in models)
    ]
    table = _table(title)
    for column in shown:
        justify: JustifyMethod = "left" if column.title == "state" else "right"
        table.add_column(column.title, justify=justify, no_wrap=True)
    targets = [model.target for model in models]
    for model, shared in zip(models, words.shared(targets), strict=True):
        name = Name(model.target, shared=shared)
        table.add_row(name, *(column.cell(model, now) for column in shown))
    return table


# --- parts --------------------------------------------------------------------------------------


def _table(first: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(first)  # the one that gives way where there is no room
    return table


def _state(state: str) -> Text:
    style = "green" if state in _GOOD else "red" if state in _BAD else "yellow"
    return Text(words.plain(state), style)


def _indented(part: RenderableType) -> Padding:
    return Padding.indent(part, _INDENT)
