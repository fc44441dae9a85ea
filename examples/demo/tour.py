"""The steps of the demo, in the order in which they are shown."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from statistics import median

from examples.archives import SampleRequest, extract, pack
from examples.demo import screen
from examples.demo.client import Client, Refused
from examples.demo.server import DemoError, Server
from examples.demo.workplace import Workplace

MODELS = ("iris_sklearn", "digits_script", "languages_service")
WARM_UP_INVOKES = 20
MEASURED_INVOKES = 200
MIB = 1 << 20

Row = tuple[str, str, str, str, str, str]
HEAD: Row = ("model", "interface", "process", "cold load ms", "warm p50 ms", "private MiB")


def train(place: Workplace) -> None:
    """Make the archives."""
    screen.heading("1. Train three small models; pack each into an archive, as for S3")
    for name in MODELS:
        with screen.progress(name):
            pack(name, place.archive(name))


def start(server: Server, client: Client, place: Workplace) -> None:
    """Wait for the server that was just started."""
    screen.heading("2. Start the server")
    with screen.progress(f"127.0.0.1:{server.port}, log in {place.shown / 'server.log'}"):
        server.wait_until_warm(client)


def load_and_invoke(client: Client, place: Workplace) -> None:
    """Load each model and ask it, once for the answer and then many times for the clock."""
    screen.heading("3. Load each model, which gets a process of its own, and invoke it")
    rows = [_measure(client, name, extract(place.archive(name), place.models, name))
            for name in MODELS]  # fmt: skip
    print()
    screen.table(HEAD, rows)


def _measure(client: Client, name: str, model_dir: Path) -> Row:
    load_ms = _milliseconds(lambda: client.load(name, model_dir))
    request = SampleRequest.of(name)
    answer = client.invoke(name, request).decode().strip()
    print(f"  {name}: {request.path.name} -> {answer}", flush=True)
    for _ in range(WARM_UP_INVOKES):
        client.invoke(name, request)
    times = [_milliseconds(lambda: client.invoke(name, request)) for _ in range(MEASURED_INVOKES)]
    model = client.describe(name)
    private = model["privateBytes"] / MIB
    numbers = (f"{load_ms:.1f}", f"{median(times):.2f}", f"{private:.1f}")
    return (name, model["interface"], model["framework"], *numbers)
