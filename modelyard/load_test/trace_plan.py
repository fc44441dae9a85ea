"""From a recorded trace to the part of a plan that says which models are asked for, and when."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence

from modelyard.load_test.plan import MODELS, TIMES
from modelyard.traces import Trace, TraceError, counted

_NAME_CHARS = 80


def models_of(trace: Trace, targets: Sequence[str], *, by_rank: bool) -> tuple[bytes, list[str]]:
    """The number of the target that each use asks for, and what to tell of it.

    A model of the trace is the target of its name, with or without ".tar.gz". ``by_rank``: its most
    used model is the first target instead, and so on; where it has more models than there are
    targets, it begins with the first again. Raises TraceError.
    """
    if not trace.times:
        raise TraceError("there is no use of a model in it")
    numbers, notes = _by_rank(trace, targets) if by_rank else (_by_name(trace, targets), [])
    return array(MODELS, (numbers[number] for number in trace.models)).tobytes(), notes


def times_of(trace: Trace, speed: float) -> bytes:
    """Seconds after the start, of all uses; a ``speed`` of 2 is twice as fast as recorded."""
    start = trace.times[0]
    return array(TIMES, ((at - start) / speed for at in trace.times)).tobytes()


def _by_name(trace: Trace, targets: Sequence[str]) -> list[int]:
    known = {target.removesuffix(".tar.gz"): number for number, target in enumerate(targets)}
    known |= {target: number for number, target in enumerate(targets)}
    missing = [name for name in trace.names if name not in known]
    if missing:
        raise TraceError(
            f"{len(missing):,} of its {counted(len(trace.names), 'model')} are not among the "
            f"{counted(len(targets), 'model')} of the endpoint, {missing[0][:_NAME_CHARS]!r} for "
            "one: give --by-rank, and its most used model stands for the first of them, and so on"
        )
    return [known[name] for name in trace.names]


def _by_rank(trace: Trace, targets: Sequence[str]) -> tuple[list[int], list[str]]:
    ranks = [number for number, _ in Counter(trace.models).most_common()]
    numbers = [0] * len(trace.names)
    for rank, number in enumerate(ranks):
        numbers[number] = rank % len(targets)
    notes = []
    if len(ranks) > len(targets):
        notes.append(
            f"the trace has {counted(len(ranks), 'model')}, which share the "
            f"{counted(len(targets), 'model')} of the endpoint"
        )
    return numbers, notes
