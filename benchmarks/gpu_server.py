"""The GPU check with a whole server: two models that do not fit together, and a full GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.gpu_rows import Row, at_most, holds
from benchmarks.models import Model
from benchmarks.servers import BenchmarkError, Contender, Server, modelyard

MIB = 1 << 20
ROW = b"[[0.01]]"

# A model that was just loaded is not asked to leave for about twice the time that its load took.
RESIDENCE = 2.5


def contender(model_root: Path, settings: Mapping[str, str]) -> Contender:
    """Our server, knowing nothing of earlier loads."""
    return modelyard(model_root).having({"MODELYARD_LEARNED_SIZES_FILE": "", **settings})


def two_models(
    server_of: Contender, directory: Path, models: tuple[Model, Model], rounds: int
) -> Iterator[Row]:
    """Ask each of two models in turn; there is room for one and what the other leaves behind."""
    with Server(server_of, directory) as server:
        for model in models:
            server.load(model)
        answers = {model.name: server.invoke(model) for model in models}
        wrong: list[str] = []
        seconds: list[float] = []
        parked = 0
        for number in range(2 * rounds):
            model, other = models[number % 2], models[1 - number % 2]
            began = time.perf_counter()
            fault = _fault(server, model, answers[model.name])
            seconds.append(time.perf_counter() - began)
            if fault:
                wrong.append(fault)
            parked += server.describe(other)["state"] == "PARKED"
        yield at_most(f"errors in {2 * rounds} requests to the two in turn", len(wrong), 0, "")
        if wrong:
            yield Row("  the first of them", wrong[0][:80])
        yield holds("the other was parked each time", f"{parked} of {2 * rounds}", parked > rounds)
        yield Row(
            "request that parks one and brings back the other, p50",
            f"{statistics.median(seconds) * 1000:,.0f} ms",
        )


def full_gpu(server_of: Contender, directory: Path, filler: Model, hungry: Model) -> Iterator[Row]:
    """A request that needs what another model has, and finds out by an error of CUDA."""
    with Server(server_of, directory) as server:
        began = time.perf_counter()
        server.load(filler)
        server.load(hungry)
        time.sleep(RESIDENCE * (time.perf_counter() - began))
        fault = _fault(server, hungry, None)
        state = server.describe(filler)["state"]
        yield holds("CUDA out of memory at invoke: room made, answered", fault or "200", not fault)
        yield holds("  by the model that filled the GPU", state, state in ("EVICTED", "PARKED"))


def _fault(server: Server, model: Model, expected: bytes | None) -> str:
    """What was wrong with an answer; empty when nothing was."""
    try:
        answer = server.invoke(model)
    except (BenchmarkError, OSError) as error:
        return str(error)
    if expected is not None and answer != expected:
        return f"{model.name} answered {answer[:80]!r} instead of {expected[:80]!r}"
    return ""
