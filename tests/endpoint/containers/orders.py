"""What tests can order a stub container to do; how, is in ``running.py``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields


@dataclass
class Rule:
    """What is done instead of what the contract says, or before it.

    ``on``: ping, list, get, load, unload, invoke, invocations or ``*``; ``model``: only for this
    id. ``times``: how often; None is for ever. ``do`` is one of

    - answer: with ``status``, ``text`` and ``headers``, and do nothing else;
    - hang: until ``release``, then as the contract says;
    - late: as the contract says, but the answer comes after ``release`` only;
    - large: an answer of ``bytes``, with their number in its head unless ``chunked``;
    - garbage: something that is not HTTP;  - break: hang up without an answer;
    - cut: hang up in the middle of the answer;  - cut_head: in the middle of its head;
    - die: the whole container, in the middle of the answer;
    - close: answer as the contract says, then hang up without having said so;
    - again: answer as the contract says and, after ``release``, once more, which is seen as
      ``again``;
    - forget: lose the model, without a word, before doing as the contract says.
    """

    on: str
    do: str
    model: str | None = None
    times: int | None = None
    status: int = 200
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    chunked: bool = False

    def matches(self, on: str, model: str) -> bool:
        return self.on in (on, "*") and self.model in (model, None) and self.times != 0


@dataclass
class Options:
    """What kind of container it is.

    ``room``: so many models fit; a load of one more is answered 507. With ``keeps_refused`` that
    one's name is kept, as multi-model-server does: until it is unloaded, the next load is answered
    409 and an invoke 503. ``shows`` is the manner of its answers and the shape of its list:
    contract, paged (``page_size`` a page, and an empty last one), tensorflow or triton.
    ``phantoms`` are listed without being loaded; ``hidden`` are loaded and not listed.
    """

    room: int | None = None
    keeps_refused: bool = False
    shows: str = "contract"
    page_size: int = 2
    phantoms: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    listens: bool = True  # else its port stays closed
    exits: int | None = None  # at its start, with this code
    ignores_sigterm: bool = False


def options_of(environment: Mapping[str, str]) -> Options:
    """From variables: JSON, or a word."""
    options = Options()
    for known in fields(Options):
        text = environment.get(f"STUB_{known.name.upper()}")
        if text is not None:
            setattr(options, known.name, text if known.name == "shows" else json.loads(text))
    return options
