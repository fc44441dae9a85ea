"""The command line, ``python -m examples.demo``, and what happens when something goes wrong."""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from types import FrameType

from examples.demo import next_steps, screen, tour
from examples.demo.client import Client, Refused
from examples.demo.server import DemoError, Server, free_port
from examples.demo.workplace import Workplace, workplace


def main() -> int:
    """Run the demo and return its exit code."""
    arguments = _parse()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        port = free_port(arguments.port)  # first: the work of an earlier demo is still there
        with workplace(arguments.directory) as place:
            return _run(place, port, keep=arguments.keep)
    except DemoError as error:
        screen.fail(str(error))
        return 1
    except KeyboardInterrupt:
        screen.fail("interrupted; nothing is left running")
        return 130


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description="Serve three small models, to see what the server does."
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the server running, with curl lines to try"
    )
    parser.add_argument("--port", type=int, default=0, help="where to listen (default: a free one)")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(".demo"),
        help="for archives, models and the server's log (default: %(default)s)",
    )
    return parser.parse_args()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Treat a request to end as Ctrl-C: leave through ``with`` blocks, which stop the server."""
    raise KeyboardInterrupt


def _run(place: Workplace, port: int, *, keep: bool) -> int:
    tour.train(place)
    with Server(place.models, port, place.log) as server, closing(Client(port)) as client:
        try:
            _visit(server, client, place, keep=keep)
        except (DemoError, Refused, HTTPException, OSError) as error:
            screen.fail(_explain(server, error), place.shown_log, server.last_lines())
            return 1
    return 0


def _visit(server: Server, client: Client, place: Workplace, *, keep: bool) -> None:
    """The tour; with ``keep`` its last step waits for Ctrl-C."""
    tour.start(server, client, place)
    tour.load_and_invoke(client, place)
    tour.load_broken(client, place)
    tour.kill_worker(client)
    tour.load_more_than_fits(server, client, place)
    if keep:
        _keep(server, client, place)
    else:
        tour.unload_and_stop(server, client)
        print(next_steps.after(place))


def _keep(server: Server, client: Client, place: Workplace) -> None:
    screen.heading("7. The server keeps running; try this in another terminal, or Ctrl-C to stop")
    print(next_steps.curl_lines(server.port, place), flush=True)
    try:
        server.wait()
    except KeyboardInterrupt:
        print()
        tour.stop(server, client)
    else:
        raise DemoError(_ended(server.exit_code or 0))


def _explain(server: Server, error: Exception) -> str:
    """What went wrong; a connection that breaks is most often a server that died."""
    code = server.exit_code_soon()
    if code is None or isinstance(error, DemoError):
        return str(error) or type(error).__name__
    return _ended(code)


def _ended(code: int) -> str:
    return f"the server ended by itself ({'exit code' if code >= 0 else 'signal'} {abs(code)})"


if __name__ == "__main__":
    sys.exit(main())
