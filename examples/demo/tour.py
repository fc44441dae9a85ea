"""The steps of the demo, in the order in which they are shown."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from examples.archives import SampleRequest, extract, pack
from examples.demo import screen
from examples.demo.client import Client, Refused
from examples.demo.server import MEMORY_LIMIT_BYTES, DemoError, Server
from examples.demo.workplace import Workplace

MODELS = ("iris_sklearn", "digits_script", "languages_service")
HEAD = ("model", "interface", "cold load ms", "warm p50 ms", "private MiB")
WARM_UP_INVOKES = 20
MEASURED_INVOKES = 200
MIB = 1 << 20

HOARDERS = tuple(f"hoarder_{number}" for number in range(1, 11))
HOARD_MIB = 40
HOARDER = f"""\
def model_fn(model_dir):
    return b"x" * ({HOARD_MIB} << 20)


def predict_fn(data, model):
    return {{"bytes": len(model)}}
"""


def train(place: Workplace) -> None:
    """Make the archives."""
    screen.heading("1. Train three small models and pack each into an archive, as for S3")
    for name in MODELS:
        with screen.progress(name):
            pack(name, place.archive(name))


def start(server: Server, client: Client, place: Workplace) -> None:
    """Wait for the server that was just started."""
    screen.heading("2. Start the server")
    with screen.progress(f"127.0.0.1:{server.port}, with its log in {place.shown_log}"):
        server.wait_until_warm(client)


def load_and_invoke(client: Client, place: Workplace) -> None:
    """Load each model and ask it, once for the answer and then many times for the clock."""
    screen.heading("3. Load each model, which gives it a process of its own, and invoke it")
    rows = []
    for name in MODELS:
        model_dir = extract(place.archive(name), place.models, name)
        load_ms = _milliseconds(partial(client.load, name, model_dir))
        rows.append(_measured(client, name, load_ms))
    print()
    screen.table(HEAD, rows)


def _measured(client: Client, name: str, load_ms: float) -> tuple[str, ...]:
    """One row of the table."""
    request = SampleRequest.of(name)
    answer = client.invoke(name, request).decode().strip()
    print(f"  {name} answers {request.path.name} with {answer}", flush=True)
    for _ in range(WARM_UP_INVOKES):
        client.invoke(name, request)
    times = [_milliseconds(partial(client.invoke, name, request)) for _ in range(MEASURED_INVOKES)]
    model = client.describe(name)
    private_mib = model["privateBytes"] / MIB
    numbers = (f"{load_ms:.1f}", f"{median(times):.2f}", f"{private_mib:.1f}")
    return (name, model["interface"], *numbers)


def load_broken(client: Client, place: Workplace) -> None:
    """Load a model whose code raises: the client is told why, and nothing else is harmed."""
    screen.heading("4. Load a model that is broken: the digits without their weights")
    model_dir = extract(place.archive("digits_script"), place.models, "broken")
    (model_dir / "centroids.npy").unlink()
    try:
        client.load("broken", model_dir)
    except Refused as refused:
        reason = refused.message.replace(str(model_dir), "…")
        screen.say(f"POST /models answers {refused.status}: {reason}")
    else:
        raise DemoError("the broken model was loaded")
    finally:
        shutil.rmtree(model_dir.parent)
    screen.say(f"still loaded: {', '.join(client.names())}")


def kill_worker(client: Client) -> None:
    """Kill a model's process behind the server's back and ask the model at once."""
    name = MODELS[0]
    screen.heading(f"5. Kill the process of {name} and invoke it at once")
    pid = _worker(client, name)
    os.kill(pid, signal.SIGKILL)
    request = SampleRequest.of(name)
    answered_ms = _milliseconds(partial(client.invoke, name, request))
    heir = _worker(client, name)
    screen.say(f"process {pid} is dead; process {heir} answered after {answered_ms:.0f} ms")


def load_more_than_fits(server: Server, client: Client, place: Workplace) -> None:
    """Load more than the memory holds, ask for one that had to go, and ask why it had to."""
    limit = MEMORY_LIMIT_BYTES // MIB
    count = len(HOARDERS)
    screen.heading(f"6. Load {count} models of {HOARD_MIB} MiB; the server may take {limit} MiB")
    for name in HOARDERS:
        model_dir = place.models / name / "model"
        (model_dir / "code").mkdir(parents=True)
        (model_dir / "code" / "inference.py").write_text(HOARDER)
        client.load(name, model_dir)
    states = {name: client.describe(name)["state"] for name in client.names()}
    evicted = [name for name, state in states.items() if state == "EVICTED"]
    screen.say(f"evicted for others, but still there: {', '.join(evicted) or 'none'}")
    name = evicted[0] if evicted else HOARDERS[0]
    came_ms = _milliseconds(partial(client.ask, name, b"{}", "application/json"))
    screen.say(f"{name} was asked for: it came back and answered after {came_ms:.0f} ms")
    screen.say(f"modelyard why {name} --limit 2")
    for line in _why(server, name):
        screen.say(line)


def _why(server: Server, name: str) -> list[str]:
    command = [str(Path(sys.executable).with_name("modelyard")), "why", name, "--limit", "2"]
    url = f"http://127.0.0.1:{server.port}"
    done = subprocess.run([*command, "--url", url], capture_output=True, text=True)
    return (done.stdout or done.stderr).splitlines()


def unload_and_stop(server: Server, client: Client) -> None:
    """Unload the models, then stop the server as the platform does."""
    screen.heading("7. Unload the models and stop the server")
    for name in client.names():
        client.unload(name)
    screen.say(f"models that are loaded: {', '.join(client.names()) or 'none'}")
    stop(server, client)


def stop(server: Server, client: Client) -> None:
    """Stop the server and say how it ended."""
    client.close()
    with screen.progress("SIGTERM to the server"):
        code = server.stop()
    screen.say(f"it exited with {code}")
    if code != 0:
        raise DemoError(f"the server should have exited with 0, not {code}")


def _worker(client: Client, name: str) -> int:
    """The process of a model; there is one unless MODELYARD_MIN_WORKERS says otherwise."""
    pid: int = client.describe(name)["workers"][0]["pid"]
    return pid


def _milliseconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1000
