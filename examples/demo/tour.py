"""The steps of the demo, in the order in which they are shown."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from examples.demo import models, screen, up
from examples.demo.board import MIB, Board, latencies
from examples.demo.client import Bucket, Deployment, Endpoint, told
from examples.demo.errors import DemoError
from examples.demo.traffic import Request, Traffic, ask
from examples.demo.watch import Instance, Watch, now
from examples.demo.workplace import Workplace

T = TypeVar("T")

NAME = "clinics"
INSTANCES = 2

# Each instance gets memory for so many of the largest models. As only whole ones fit, and sizes
# differ, two or three are in memory at a time: five in all.
FIT = 2.9

THREADS = 4
REST_SECONDS = 0.15
BURST_THREADS = 12
BURST_PATIENTS = 2_000

# A step that waits for something to happen waits at most so long, on a slow machine.
PATIENCE_SECONDS = 60.0
REFRESH_SECONDS = 0.5
SELDOM_SECONDS = 7.0

# How long to look on when something has happened.
AFTERMATH_SECONDS = 3.0

# What containers have imported when a model comes, and no more, as it takes memory.
ENVIRONMENT = {"MODELYARD_PRELOAD": ",".join(models.FRAMEWORKS)}

BOTO3 = f"""\
sagemaker = boto3.client("sagemaker")
sagemaker.create_model(ModelName=..., PrimaryContainer={{
    "Mode": "MultiModel", "ModelDataUrl": "s3://{NAME}/", ...}})
sagemaker.create_endpoint_config(...)
sagemaker.create_endpoint(EndpointName="{NAME}", EndpointConfigName=...)

runtime = boto3.client("sagemaker-runtime")
runtime.invoke_endpoint(EndpointName="{NAME}", TargetModel="oslo.tar.gz",
                        ContentType="text/csv", Body=...)
"""


class Tour:
    """One visit to an endpoint that ``up`` starts."""

    def __init__(self, place: Workplace, process: up.Up, seconds: float) -> None:
        self._place = place
        self._process = process
        self._seconds = seconds

    def start(self) -> None:
        """Start the endpoint's process, and look for it with boto3."""
        screen.heading("1. modelyard up: an S3 and the SageMaker APIs on this machine")
        with screen.progress(f"its log is {self._place.shown_endpoint}/log"):
            self._process.start()
        screen.say("What it prints leads boto3 to it:")
        screen.code("\n".join(f"export {n}={v}" for n, v in self._process.exports.items()))
        self._endpoint = Endpoint(NAME)
        self._watch = Watch(self._process.url, NAME)

    def fill_bucket(self) -> None:
        """Train, pack and upload."""
        count = len(models.CLINICS)
        screen.heading(f"2. {count} models of three frameworks into a bucket")
        self._bucket = Bucket(NAME)
        self._models: dict[str, models.Model] = {}
        with screen.progress(f"training {count} and uploading their archives"):
            for clinic in models.CLINICS:
                model = models.train(clinic, self._place.archives)
                self._bucket.upload(model.archive)
                self._models[model.target] = model
        for framework in models.FRAMEWORKS:
            names = [one.clinic for one in self._models.values() if one.framework == framework]
            screen.say(f"{framework:<8} {' '.join(names)}")

    def create(self) -> None:
        """One instance at first, which may take what it wants, to see what that is."""
        screen.heading("3. An endpoint for all of them, with boto3 as on AWS")
        screen.code(BOTO3)
        screen.say("examples/demo/client.py has all of it.")
        plan = Deployment(f"{NAME}-1", self._bucket.url, 1, ENVIRONMENT)
        with screen.progress("creating it, with one instance"):
            self._endpoint.create(plan)
            self._until_warm()
        with screen.progress("invoking each model once and checking the answer"):
            firsts = [self._ask(model) for model in self._models.values()]
        [instance] = self._watch.look()
        held = [size / MIB for size in instance.held_bytes.values()]
        screen.say(
            f"first answers, with download and load: {latencies(firsts)}. In memory a model "
            f"takes {min(held):.0f} to {max(held):.0f} MiB, and the server "
            f"{instance.server_bytes // MIB} MiB."
        )
        self._limit(instance.server_bytes + int(FIT * max(held) * MIB))

    def _limit(self, limit_bytes: int) -> None:
        """The same endpoint with little memory and two instances."""
        environment = {**ENVIRONMENT, "MODELYARD_MEMORY_LIMIT_BYTES": str(limit_bytes)}
        plan = Deployment(f"{NAME}-2", self._bucket.url, INSTANCES, environment)
        with screen.progress(
            f"UpdateEndpoint: two instances of {limit_bytes // MIB} MiB, memory for 5 models in all"
        ):
            self._endpoint.update(plan)
            self._until_warm()

    def traffic(self) -> Traffic:
        """Clients of all models, the first the most popular; to be entered."""
        return Traffic(self._endpoint, self._models, threads=THREADS, rest_seconds=REST_SECONDS)

    def watch(self, traffic: Traffic) -> None:
        """The live table, for a while, then what it came to."""
        screen.heading(f"4. {self._seconds:.0f} seconds of traffic, its popularity by Zipf's law")
        board = Board(self._watch, traffic)
        self._show(board, self._seconds)
        print()
        for line in board.summary():
            screen.say(line)
        _check(traffic)
        self._tell_why()

    def _tell_why(self) -> None:
        """The story of the model that left last."""
        for arrival in reversed(self._watch.arrivals):
            for instance in self._watch.look():
                if arrival.victims and instance.name == arrival.instance:
                    self._tell_why_of(instance, arrival.victims[0].target)
                    return
        raise DemoError("no model was evicted, with memory for 5 of 12")

    def _tell_why_of(self, instance: Instance, target: str) -> None:
        story = up.why(instance.url, instance.ids[target])
        for name, model_id in instance.ids.items():
            story = story.replace(model_id, models.short(name))
        screen.say(f"modelyard why, of {models.short(target)} on instance {instance.name}:")
        for line in story.splitlines():
            screen.say(line.strip())

    def burst(self, traffic: Traffic) -> None:
        """Many ask for one model, until the other instance has a copy."""
        target, model = next(iter(self._models.items()))
        screen.heading(f"5. A burst: {BURST_THREADS} more clients, all for {model.clinic}")
        begin = now()
        with Traffic(
            self._endpoint,
            {target: model},
            threads=BURST_THREADS,
            rest_seconds=0,
            patient_count=BURST_PATIENTS,
        ) as burst:
            spill = self._until_happened("spill", begin, target)
            screen.say(f"{spill['time'] - begin:.1f} s later: spill, {spill['text']}")
            self._until(lambda: self._holders(target) == INSTANCES, "a copy on both instances")
            self._show(Board(self._watch, traffic), AFTERMATH_SECONDS)
        screen.say(f"the burst: {latencies(burst.requests)}, {len(burst.errors)} errors")
        _check(burst)
        _check(traffic)

    def _holders(self, target: str) -> int:
        return sum(target in instance.in_memory for instance in self._watch.look())

    def add_and_remove(self, traffic: Traffic) -> None:
        """Upload a model and use it at once; delete one and see what its users are told."""
        screen.heading("6. While requests come, a model is added and another one removed")
        added = models.train(models.LATECOMER, self._place.archives)
        self._bucket.upload(added.archive)
        first = self._ask(added)
        screen.say(f"{added.target} is uploaded; its first answer took {_ms(first)}")
        traffic.add(added)
        target = list(self._models)[1]
        traffic.remove(target)
        begin = now()
        self._bucket.delete(target)
        error = self._until(lambda: self._refused(target), f"{target} to be gone")
        screen.say(f"{target} is deleted; {now() - begin:.1f} s later its users are told")
        screen.say(error)
        back = self._until_happened("copy_withdrawn", 0.0)
        screen.say(
            f"Now that the burst is over: a copy of {models.short(back['target'])} on "
            f"{back['instance']} is withdrawn, {back['text']}."
        )
        _check(traffic)

    def _refused(self, target: str) -> str:
        """What a request for a model is told; "" while it is answered."""
        try:
            self._endpoint.invoke(target, models.patients(1), models.CONTENT_TYPE)
        except ClientError as error:
            return told(error)
        return ""

    def lose_an_instance(self, traffic: Traffic) -> None:
        """Kill one of two; requests go on."""
        begin, before = now(), len(traffic.requests)
        victim = self._watch.look()[0]
        screen.heading(f"7. kill -9 of all processes of instance {victim.name}")
        _kill(victim.url)
        lost = self._until_happened("instance_lost", begin)
        screen.say(f"{lost['time'] - begin:.1f} s later: {lost['text'] or 'it is lost'}")
        started = self._until_happened("instance_started", begin)
        screen.say(f"{started['time'] - begin:.1f} s later: another one serves in its place")
        count = len(traffic.requests) - before
        screen.say(f"{count} requests were answered meanwhile, with {len(traffic.errors)} errors")
        self._show(Board(self._watch, traffic), AFTERMATH_SECONDS)
        _check(traffic)

    def stop(self) -> None:
        """Delete the endpoint, then stop what it ran in."""
        screen.heading("8. The end")
        with screen.progress("DeleteEndpoint"):
            self._endpoint.delete()
        with screen.progress("modelyard down"):
            self._process.stop()

    # --- what steps share -----------------------------------------------------------------------

    def _ask(self, model: models.Model) -> Request:
        """One request that must be answered."""
        request = ask(self._endpoint, model)
        if request.error:
            raise DemoError(f"{model.target} should have answered: {request.error}")
        return request

    def _show(self, board: Board, seconds: float) -> None:
        """The table, for a while."""
        live = screen.Live(seldom_seconds=SELDOM_SECONDS)
        end = time.monotonic() + seconds
        over = False
        while not over:
            time.sleep(REFRESH_SECONDS)
            over = time.monotonic() > end
            live.show(board.lines(), last=over)

    def _until_warm(self) -> None:
        """Requests that come before would wait, too, and look slow."""
        self._until(lambda: self._watch.is_warm(models.FRAMEWORKS), "frameworks to be imported")

    def _until_happened(self, kind: str, since: float, target: str = "") -> dict[str, Any]:
        """The first such event since then, when it happens."""

        def seen() -> dict[str, Any] | None:
            self._watch.look()
            return self._watch.happened(kind, since, target)

        return self._until(seen, f"the event {kind}")

    def _until(self, look: Callable[[], T | None], awaited: str) -> T:
        """What ``look`` finds, when it does. Raises DemoError when that takes too long."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(0.1)
        raise DemoError(f"waited {PATIENCE_SECONDS:.0f} s for {awaited}, in vain")


def _check(traffic: Traffic) -> None:
    """Raise DemoError if a request has failed."""
    for error in traffic.errors:
        raise DemoError(f"{len(traffic.errors)} requests failed; the first: {error}")


def _kill(url: str) -> None:
    """End the processes of an instance as if its machine was lost: those that know its port."""
    port = f"SAGEMAKER_BIND_TO_PORT={url.rpartition(':')[2]}\0".encode()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if port in (directory / "environ").read_bytes():
                os.kill(int(directory.name), signal.SIGKILL)
        except OSError:  # of somebody else, or ended meanwhile
            continue


def _ms(request: Request) -> str:
    return f"{request.seconds * 1000:.0f} ms"
