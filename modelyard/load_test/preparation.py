"""From a command line to the traffic that it means."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from modelyard.load_test import options, targets, trace_plan
from modelyard.load_test.bodies import bodies_of, default_body
from modelyard.load_test.place import Place, at_aws, place_of
from modelyard.load_test.plan import Plan
from modelyard.load_test.problem import Problem
from modelyard.load_test.wire import Body, Job
from modelyard.trace_files import read_trace
from modelyard.traces import TraceError


@dataclass(slots=True)
class Prepared:
    """What is to be sent where. ``workers`` is how many requests may be in flight."""

    place: Place
    targets: list[str]
    plan: Plan
    bodies: list[Body]
    workers: int
    notes: list[str] = field(default_factory=list)


def prepare(asked: argparse.Namespace, environment: Mapping[str, str]) -> Prepared:
    """Look at the endpoint, and plan. Raises Problem."""
    given = None
    if asked.models is not None:
        given = targets.listed(asked.models)
        if not given:
            raise Problem("--models: there is no model in it")
    elif asked.models_from is not None:
        given = targets.read(asked.models_from)
    default = None
    if asked.bodies is None or asked.body is not None or asked.data is not None:
        default = default_body(asked.body, asked.data, asked.content_type)
    place = _place(asked, environment)
    found = targets.find(place, asked.endpoint, given)
    plan, notes = _plan(asked, found.names)
    if asked.bodies is not None:
        bodies = bodies_of(found.names, asked.bodies, default, asked.content_type)
    else:
        bodies = [default or Body()]
    workers = asked.max_in_flight or options.MAX_IN_FLIGHT
    if not plan.open_loop:
        workers = asked.concurrency or options.CONCURRENCY
    return Prepared(place, found.names, plan, bodies, workers, [*found.notes, *notes])


def _place(asked: argparse.Namespace, environment: Mapping[str, str]) -> Place:
    if asked.aws:
        return at_aws(asked.region)
    return place_of(asked.url, asked.data_dir, asked.region, environment)


def _plan(asked: argparse.Namespace, names: list[str]) -> tuple[Plan, list[str]]:
    duration = asked.duration
    if duration is None and asked.requests is None and asked.trace is None:
        duration = options.DURATION_SECONDS
    plan = Plan(
        models=len(names),
        seed=asked.seed,
        zipf=1.0 if asked.zipf is None else asked.zipf,
        rate=asked.rate,
        requests=asked.requests,
        duration_seconds=duration,
    )
    if asked.trace is None:
        return plan, []
    try:
        trace = read_trace(asked.trace, asked.trace_format)
        models, notes = trace_plan.models_of(trace, names, by_rank=asked.by_rank)
    except (TraceError, OSError) as error:
        where = "" if isinstance(error, OSError) else f"{asked.trace}: "
        raise Problem(f"--trace: {where}{error}") from error
    own_times = asked.rate is None and asked.concurrency is None
    times = trace_plan.times_of(trace, asked.speed or 1.0) if own_times else b""
    return replace(plan, trace_models=models, trace_times=times), [*trace.notes, *notes]


def jobs(asked: argparse.Namespace, prepared: Prepared) -> list[Job]:
    """One for each process; together they are the plan."""
    return [
        Job(
            endpoint=asked.endpoint,
            place=prepared.place,
            plan=prepared.plan,
            targets=prepared.targets,
            bodies=prepared.bodies,
            accept=asked.accept,
            target_variant=asked.target_variant,
            part=part,
            parts=asked.processes,
            workers=len(range(part, prepared.workers, asked.processes)),
            warm_up=asked.warm_up,
            patience_seconds=asked.timeout,
            not_ready_pause_seconds=asked.not_ready_pause,
        )
        for part in range(asked.processes)
    ]


def settings(asked: argparse.Namespace, prepared: Prepared) -> dict[str, str]:
    """The run in words, for reports; no keys are among them."""
    plan = prepared.plan
    pause = asked.not_ready_pause
    return {
        "endpoint": asked.endpoint,
        "at": str(prepared.place),
        "models": f"{len(prepared.targets):,}",
        "which": _which(asked, plan),
        "when": _when(asked, prepared),
        "ends": _ends(plan),
        "warm-up": f"{asked.warm_up:,} requests",
        **_body(asked, prepared.bodies[0]),
        "not ready": f"sent again after {pause:g} s" if pause else "an error",
        "seed": str(plan.seed),
        "processes": str(asked.processes),
    }


def _body(asked: argparse.Namespace, body: Body) -> dict[str, str]:
    if asked.bodies is not None:
        given = asked.content_type or "by file"
        return {"body": f"by model, from {asked.bodies}", "content type": given}
    size = f"{len(body.data):,} bytes, for all models"
    return {"body": size, "content type": body.content_type or "none"}


def _which(asked: argparse.Namespace, plan: Plan) -> str:
    if plan.trace_models:
        return f"trace {asked.trace}{', by rank' if asked.by_rank else ''}"
    return f"Zipf, exponent {plan.zipf:g}"


def _ends(plan: Plan) -> str:
    ends = []
    if plan.duration_seconds is not None:
        ends.append(f"{plan.duration_seconds:g} s")
    if plan.requests is not None:
        ends.append(f"{plan.requests:,} requests")
    if plan.trace_models:
        ends.append("the end of the trace")
    return "after " + " or ".join(ends)


def _when(asked: argparse.Namespace, prepared: Prepared) -> str:
    plan, workers = prepared.plan, prepared.workers
    if plan.rate is not None:
        return f"{plan.rate:g} requests a second (Poisson), {workers} in flight at most"
    if plan.trace_times:
        speed = asked.speed or 1
        return f"as the trace says, at {speed:g} times its speed, {workers} in flight at most"
    return f"one after the other, {workers} at a time"
