"""What would be sent, without sending it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from modelyard.load_test.figures import name_of
from modelyard.load_test.plan import Plan
from modelyard.load_test.summary import one_line

_FIRST = 10
_LOOKED_AT = 100_000
_MOST_USED = 5


def description(plan: Plan, targets: Sequence[str], settings: Mapping[str, str]) -> str:
    """Settings, the first requests, and the most used models."""
    return "\n".join(_lines(plan, targets, settings))


def _lines(plan: Plan, targets: Sequence[str], settings: Mapping[str, str]) -> Iterator[str]:
    width = max(map(len, settings)) + 2
    for name, value in settings.items():
        yield f"{name:<{width}}{one_line(value)}"
    looked_at = list(islice(plan.planned(), _LOOKED_AT + 1))
    more = len(looked_at) > _LOOKED_AT
    looked_at = looked_at[:_LOOKED_AT]
    yield ""
    yield f"the first of {'more than ' if more else ''}{len(looked_at):,} requests"
    for planned in looked_at[:_FIRST]:
        when = f"{planned.at:10.3f} s  " if plan.open_loop else "  "
        yield f"{when}{name_of(one_line(targets[planned.model]))}"
    counts = Counter(planned.model for planned in looked_at)
    yield ""
    yield f"the most used of {len(counts):,} models in {'these' if more else 'all'} requests"
    for model, count in counts.most_common(_MOST_USED):
        yield f"  {count / len(looked_at):7.1%}  {name_of(one_line(targets[model]))}"
