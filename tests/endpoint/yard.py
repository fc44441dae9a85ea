"""A whole endpoint for tests, and what its user does with it: boto3, real containers and archives.

    with Yard(tmp_path) as yard:  # its instances are stubs; with **SERVE: this installation's
        yard.add("m.tar.gz", says="hello")
        yard.endpoint(yard.variant(instances=2))
        yard.invoke("m.tar.gz").json["says"]

The endpoint runs in a thread of the test's process, see ``Yard.call``. ``Child`` is one that runs
in a process of its own, which can be killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

import uvloop

from endpoint.api.server import ApiServer
from endpoint.fleets import choice
from endpoint.objects.stores import Stores
from endpoint.platform import Platform
from endpoint.running import STATE_FILE, run
from endpoint.settings import EndpointSettings
from endpoint.state import State
from tests.endpoint.containers import running
from tests.endpoint.user import WAIT_SECONDS, User

T = TypeVar("T")

ROOT = Path(__file__).parents[2]

# Instances are of stub containers unless a test says otherwise.
STUBS: Mapping[str, Any] = {
    "local_command": running.COMMAND,
    "probe_interval_seconds": 0.5,
    "connect_timeout_seconds": 10.0,  # a slow machine is no instance that is lost
    "stop_timeout_seconds": 2.0,
    "invoke_timeout_seconds": 15.0,
}
SERVE: Mapping[str, Any] = {"local_command": ""}


class Yard(User):
    """The endpoint in a thread of this process."""

    def __init__(self, directory: Path, *, s3_url: str = "", **settings: Any) -> None:
        super().__init__(directory)
        self.settings = replace(
            EndpointSettings(), port=0, data_dir=str(directory / "data"), **{**STUBS, **settings}
        )
        self.stop_instances = True  # at the end
        self._s3_url = s3_url or None
        self._ready: Future[int] = Future()
        self._thread = threading.Thread(target=uvloop.run, args=(self._serve(),))

    def __enter__(self) -> Self:
        self._thread.start()
        self.connect(f"http://127.0.0.1:{self._ready.result(WAIT_SECONDS)}")
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        if self.stop_instances:
            self.check_nothing_runs()

    def call(self, function: Callable[[], T]) -> T:
        """Call it in the endpoint's thread."""

        async def do() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(do(), self.loop).result(WAIT_SECONDS)

    def no_more_space(self, full: bool = True) -> None:
        """Have the database refuse all changes, as it does on a disk that is full, or no more."""
        self.call(lambda: self.state._database.execute(f"PRAGMA query_only = {int(full)}"))

    async def _serve(self) -> None:
        self.loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        # What only a log would tell.
        self.faults: list[Mapping[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.faults.append(context))
        self.state = State(self.directory / "data" / STATE_FILE)
        fleet, stores = choice.make(self.settings, os.environ), Stores(self.settings, self._s3_url)
        dice = random.Random(1).random  # shares of requests are the same every time
        self.platform = Platform(self.settings, self.state, fleet, stores, dice)
        api = ApiServer(self.settings, self.state, self.platform)
        try:
            await self.platform.start()
            self._ready.set_result(await api.start())
            await self._end.wait()
        except BaseException as error:
            self._ready.set_exception(error)
            raise
        finally:
            await api.stop(1.0)
            await self.platform.close(stop_instances=self.stop_instances)
            await stores.close()
            await fleet.close()
            self.state.close()


class Child(User):
    """The endpoint in a process of its own; its life ends with ``kill`` or ``stop``."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        super().__init__(directory)
        self._settings = {
            **STUBS, "port": 0, "data_dir": str(directory / "data"), **settings
        }  # fmt: skip

    def start(self) -> None:
        """Begin another life."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.endpoint.yard", json.dumps(self._settings)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.connect(self.process.stdout.readline().strip())

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: in order, with all instances."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        self.disconnect()
        with self.process:
            self.process.send_signal(number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        self.check_nothing_runs()


def main(arguments: Sequence[str]) -> None:
    """The endpoint as a process; its URL is the first line that it prints."""
    settings = EndpointSettings(**json.loads(arguments[0]))
    uvloop.run(run(settings, os.environ, lambda url: print(url, flush=True)))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
