"""The command line, ``python -m examples.demo``, and what happens when something goes wrong."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from botocore.exceptions import BotoCoreError, ClientError

from examples.demo import next_steps, screen
from examples.demo.errors import DemoError
from examples.demo.tour import NAME, Tour
from examples.demo.up import Up
from examples.demo.workplace import Workplace, workplace


def main() -> int:
    """Run the demo and return its exit code."""
    arguments = _parse()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with workplace(arguments.directory) as place:
            return _run(place, Up(place.endpoint, arguments.port), arguments)
    except DemoError as error:
        screen.fail(str(error))
        return 1
    except KeyboardInterrupt:
        screen.fail("interrupted; nothing is left running")
        return 130


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="An endpoint of twelve models on this machine, to see what it does with them.",
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the endpoint running, with lines to try"
    )
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="of traffic to watch (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=0, help="of the APIs (default: a free one)")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(".demo"),
        help="for archives, the endpoint's data and its log (default: %(default)s)",
    )
    return parser.parse_args()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Treat a request to end as Ctrl-C: leave through ``finally``, which stops the endpoint."""
    raise KeyboardInterrupt


def _ignore_interrupts() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _run(place: Workplace, process: Up, arguments: argparse.Namespace) -> int:
    kept = False
    try:
        _visit(Tour(place, process, arguments.seconds), keep=arguments.keep)
        kept = arguments.keep
    except (DemoError, BotoCoreError, ClientError) as error:
        log = place.shown_endpoint / process.log.name
        screen.fail(str(error), log, process.last_lines())
        return 1
    finally:
        if not kept:
            _ignore_interrupts()  # the impatient would leave something behind
            process.stop()
    _say_goodbye(place, process, keep=kept)
    return 0


def _visit(tour: Tour, *, keep: bool) -> None:
    tour.start()
    tour.fill_bucket()
    tour.create()
    with tour.traffic() as traffic:
        tour.watch(traffic)
        tour.burst(traffic)
        tour.add_and_remove(traffic)
        tour.lose_an_instance(traffic)
    if not keep:
        tour.stop()


def _say_goodbye(place: Workplace, process: Up, *, keep: bool) -> None:
    if not keep:
        print(next_steps.after(place))
        return
    screen.heading("8. The endpoint keeps running; try this in a shell. The last line ends it")
    print(next_steps.kept(place, NAME, "accra.tar.gz", process.exports), flush=True)


if __name__ == "__main__":
    sys.exit(main())
