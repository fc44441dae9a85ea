"""The command ``modelyard``: finds the subcommand and hands it the rest of the line.

A subcommand is a function of its arguments that returns the exit code: 0 when all is well, 1 when
what it looked at is not, 2 when it could not be done as asked.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import FrameType
from typing import NoReturn

from container import entrypoint
from endpoint.settings import SettingsError as EndpointSettingsError
from model_server.settings import SettingsError
from modelyard import check, pack, replay, why

Command = Callable[[Sequence[str]], int]


def _unwinding(name: str, command: Command) -> Command:
    """The command, ended by signals in a way that clears away what it has started and written.

    Settings that cannot be used, of a server or of an endpoint, are told here, for all commands.
    """

    def run_it(arguments: Sequence[str]) -> int:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _stop)
        try:
            return command(arguments)
        except (SettingsError, EndpointSettingsError) as error:
            print(f"modelyard {name}: {error}", file=sys.stderr)  # noqa: T201
            return 2
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        except BrokenPipeError:  # whoever read our output has read enough
            sys.stderr.close()
            return 1

    return run_it


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _of_extra(name: str, *packages: str) -> Command:
    """A command in a module of this name, which is imported when it is run: it needs ``[up]``."""

    def run_it(arguments: Sequence[str]) -> int:
        missing = [package for package in packages if find_spec(package) is None]
        if missing:
            words = f"needs {' and '.join(missing)}: pip install 'modelyard[up]'"
            print(f"modelyard {name} {words}", file=sys.stderr)  # noqa: T201
            return 2
        command: Command = import_module(f"modelyard.{name.replace('-', '_')}").main
        return command(arguments)

    return _unwinding(name, run_it)


COMMANDS: dict[str, tuple[Command, str]] = {
    "serve": (entrypoint.serve_as_subcommand, "run the server"),
    "check": (
        _unwinding("check", check.main),
        "load a model as the server would, and say what it found",
    ),
    "pack": (_unwinding("pack", pack.main), "make the archive of a model's directory"),
    "up": (_of_extra("up", "aiohttp", "boto3"), "run an endpoint of many models, with an S3"),
    "down": (_of_extra("down", "aiohttp", "boto3"), "stop it"),
    "invoke": (_of_extra("invoke", "boto3"), "send a model of it a request"),
    "status": (
        _of_extra("status", "boto3", "rich"),
        "show what an endpoint has loaded where, and what left memory",
    ),
    "load-test": (
        _of_extra("load-test", "boto3"),
        "send an endpoint traffic, and report how it was answered",
    ),
    "deploy": (
        _of_extra("deploy", "boto3"),
        "make or change an endpoint of many models on SageMaker",
    ),
    "undeploy": (_of_extra("undeploy", "boto3"), "remove it"),
    "replay": (
        _unwinding("replay", replay.main),
        "tell what a trace would have cost under each policy",
    ),
    "why": (
        _unwinding("why", why.main),
        "say what became of a model in a server's memory, and why",
    ),
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
