"""The command: its options, and one look or many."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from container.environment import current_environment
from modelyard.address import RUNTIME_VARIABLE, NoEndpoint, address
from modelyard.quantities import duration, whole
from modelyard.say import say
from modelyard.status.looks import Looks
from modelyard.status.source import NoAnswer, Source
from modelyard.status.watching import watch
from modelyard.status.words import plain

_WATCH_SECONDS = 2.0


def main(arguments: Sequence[str]) -> int:
    """Run ``modelyard status``; returns the exit code."""
    asked = _options(arguments)

    def find() -> Source:
        return Source(address(asked.url, asked.data_dir, current_environment()))

    looks = Looks(asked.endpoint, json=asked.json, models=asked.models, events=asked.events)
    try:
        if asked.watch is not None:
            watch(find, looks, asked.watch)
            return 0
        document = find().look()
    except (NoEndpoint, NoAnswer) as error:
        say(f"modelyard status: {plain(str(error))}")
        return 2
    missing = looks.missing(document)
    if missing:
        say(f"modelyard status: {missing}")
        return 2
    looks.print(document)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="modelyard status",
        description="Show what an endpoint has loaded where, how it answers, and what left memory.",
        epilog="Exit code: 0 shown, 2 there is no such endpoint, or it does not answer.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("endpoint", metavar="ENDPOINT", nargs="?", help="this one alone; default: all")
    add(
        "--watch",
        metavar="SECONDS",
        type=duration,
        nargs="?",
        const=_WATCH_SECONDS,
        help=f"look again and again, each {_WATCH_SECONDS:g} s unless told otherwise; Ctrl-C ends",
    )
    add("--json", action="store_true", help="print what GET /status answers, on a line of its own")
    lengths = "default: 5, or what the terminal has room for while it is watched"
    add("--models", metavar="N", type=whole, help=f"in each list; {lengths}")
    add("--events", metavar="N", type=whole, help=f"of what left memory; {lengths}")
    add("--url", help=f"of the endpoint; default: ${RUNTIME_VARIABLE}, else the data directory")
    add("--data-dir", metavar="DIR", help="that of `modelyard up`")
    return parser.parse_args(arguments)
