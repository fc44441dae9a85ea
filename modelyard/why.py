"""``modelyard why``: asks a running server what became of a model in memory, and why."""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from model_server import wire
from model_server.memory.decisions import Decision
from model_server.memory.ledger import shown_bytes
from model_server.memory.phrases import Times, ledger_name, named, shown_seconds
from model_server.memory.standing import since, standing
from model_server.memory.wording import told
from modelyard.client import Answer, Client

_URL = "http://127.0.0.1:8080"
_LIMIT = 20
_MOST = 1000
_TIMEOUT_SECONDS = 10.0


class _Found(msgspec.Struct):
    """The answer of ``GET /memory/decisions``."""

    decisions: list[Decision]


class _NoAnswer(Exception):
    """Raised with why the server has nothing to say."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    options = _options(arguments)
    try:
        client = _client(options.url)
        memory, decisions = _asked(client, options.model, options.limit)
        info = msgspec.json.decode(memory, type=wire.MemoryInfo)
        found = msgspec.json.decode(decisions, type=_Found).decisions
    except (_NoAnswer, msgspec.DecodeError, http.client.HTTPException, OSError) as error:
        reason = error if isinstance(error, _NoAnswer) else f"no answer from {options.url}: {error}"
        print(f"modelyard why: {reason}", file=sys.stderr)  # noqa: T201
        return 2
    model = next((each for each in info.models if each.model_name == options.model), None)
    if options.json:
        data = _as_data(options.model, json.loads(memory), json.loads(decisions))
        print(json.dumps(data, indent=2))  # noqa: T201
    else:
        times = Times(time.time(), datetime.fromtimestamp)
        lines = _on_all(info, found, times)
        if options.model is not None:
            lines = _on_one(options.model, model, info, found, times)
        print("\n".join(lines))  # noqa: T201
    return 0 if options.model is None or model is not None else 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="modelyard why",
        description="Say where a model stands in the memory of a running server, and what was "
        "decided about it and why, the newest first; without MODEL, of all.",
        epilog="Exit code: 0 told, 1 the server has no such model, 2 the server gave no answer.",
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="the model's name")
    parser.add_argument("--url", default=_URL, help=f"of the server; default: {_URL}")
    parser.add_argument(
        "--limit",
        type=_limit,
        default=_LIMIT,
        metavar="N",
        help=f"decisions to tell, up to {_MOST}; default: {_LIMIT}",
    )
    parser.add_argument("--json", action="store_true", help="print what the server answered")
    return parser.parse_args(arguments)


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {_MOST}")
    return int(text)


def _client(url: str) -> Client:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme != "http" or parts.path not in ("", "/"):
        raise _NoAnswer(f"--url must be like {_URL}, not {url!r}")
    return Client(port or 80, host=host, timeout_seconds=_TIMEOUT_SECONDS)


def _asked(client: Client, model: str | None, limit: int) -> tuple[bytes, bytes]:
    """What the server knows of its memory, and its decisions."""
    if model is not None and _is_not_utf8(model):
        raise _NoAnswer(f"the model name {model!r} is not UTF-8, so no model has it")
    return _good(client.memory()), _good(client.decisions(model, limit))


def _is_not_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _good(answer: Answer) -> bytes:
    if answer.status != 200:
        raise _NoAnswer(f"the server answered {answer.error}")
    return answer.body


def _as_data(name: str | None, memory: dict[str, Any], decisions: dict[str, Any]) -> dict[str, Any]:
    if name is None:
        return {"memory": memory, **decisions}
    model = next((each for each in memory["models"] if each["modelName"] == name), None)
    return {"model": model, **decisions}


def _on_one(
    name: str,
    model: wire.ModelMemory | None,
    info: wire.MemoryInfo,
    decisions: Sequence[Decision],
    times: Times,
) -> Iterator[str]:
    """Where a model stands, then what was decided about it."""
    if model is not None:
        state = standing(model, info, since(model, decisions, times))
        yield f"{named(name)}: {state}"
    elif decisions:
        yield f"{named(name)} is not on the server; what was decided about it before:"
    else:
        yield f"the server has no model {named(name)} and remembers no decision about it"
        return
    for decision in decisions:
        yield f"  {told(decision, name, times)}"
    if not decisions:
        yield "  no decision about it is remembered"


def _on_all(info: wire.MemoryInfo, decisions: Sequence[Decision], times: Times) -> Iterator[str]:
    """The ledgers and policies, then the last decisions, of whatever model."""
    state = ", and models come and go too often" if info.thrashing else ""
    states = Counter(model.state for model in info.models)
    models = "1 model" if len(info.models) == 1 else f"{len(info.models):,} models"
    parked = f", {states['PARKED']:,} parked" if states["PARKED"] else ""
    yield f"policy {info.policy}{state}; {models}, {states['EVICTED']:,} of them evicted{parked}"
    for ledger in info.ledgers:
        yield f"  {_ledger(ledger)}"
    for shadow in info.shadows:
        wait = shown_seconds(shadow.reload_seconds)
        yield f"  {shadow.policy} would have had {shadow.misses:,} reloads, {wait} in all"
    if decisions:
        yield "last decisions:"
    for decision in decisions:
        yield f"  {named(decision.model_name)} {told(decision, decision.model_name, times)}"


def _ledger(ledger: wire.LedgerInfo) -> str:
    leaving = f", {shown_bytes(ledger.leaving_bytes)} are leaving" if ledger.leaving_bytes else ""
    free = f"{shown_bytes(ledger.free_bytes)} free"
    if ledger.free_bytes < 0:
        free = f"{shown_bytes(-ledger.free_bytes)} too much"
    others = "the server" if ledger.name == "ram" else "others"
    return (
        f"{ledger_name(ledger.name)}: {free} of {shown_bytes(ledger.limit_bytes)}; models hold "
        f"{shown_bytes(ledger.held_bytes)}, {others} {shown_bytes(ledger.overhead_bytes)}{leaving}"
    )
