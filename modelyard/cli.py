"""The command ``modelyard``: finds the subcommand and hands it the rest of the line.

A subcommand is a function of its arguments that returns the exit code: 0 when all is well, 1 when
what it looked at is not, 2 when it could not be done as asked.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from container import entrypoint
from modelyard import check, pack, replay, why

Command = Callable[[Sequence[str]], int]


def _unwinding(command: Command) -> Command:
    """The command, ended by signals in a way that clears away what it has started and written."""

    def run_it(arguments: Sequence[str]) -> int:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _stop)
        try:
            return command(arguments)
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        except BrokenPipeError:  # whoever read our output has read enough
            sys.stderr.close()
            return 1

    return run_it


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


COMMANDS: dict[str, tuple[Command, str]] = {
    "serve": (entrypoint.serve_as_subcommand, "run the server"),
    "check": (_unwinding(check.main), "load a model as the server would, and say what it found"),
    "pack": (_unwinding(pack.main), "make the archive of a model's directory"),
    "replay": (_unwinding(replay.main), "tell what a trace would have cost under each policy"),
    "why": (_unwinding(why.main), "say what became of a model in a server's memory, and why"),
}


def main() -> NoReturn:
    """The console script ``modelyard``."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one subcommand; returns the exit code."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="modelyard",
        usage="modelyard COMMAND [ARGUMENTS]",
        description="Many models, one endpoint.",
        epilog="\n".join(["commands:", *lines, "", "`modelyard COMMAND --help` tells more."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.command not in COMMANDS:
        parser.error(
            f"COMMAND must be one of {', '.join(COMMANDS)}, not {chosen.command or 'none'}"
        )
    command, _ = COMMANDS[chosen.command]
    return command(chosen.arguments)
