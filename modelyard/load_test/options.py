"""The command line of ``modelyard load-test``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from modelyard import quantities
from modelyard.address import RUNTIME_VARIABLE
from modelyard.trace_files import FORMATS

DURATION_SECONDS = 30.0
CONCURRENCY = 4
MAX_IN_FLIGHT = 64


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What was asked for. Exits with 2 for what cannot be meant."""
    parser = argparse.ArgumentParser(
        prog="modelyard load-test",
        description="Send traffic to the models of an endpoint, ours or AWS's, and report how it "
        "was answered. Clients that repeat requests are not imitated: each failure counts.",
        epilog="Exit code: 0 all requests were answered, 1 some failed, 2 nothing was sent.",
        allow_abbrev=False,
    )
    parser.add_argument("endpoint", metavar="ENDPOINT")
    for add_to in (_models, _traffic, _requests, _place, _reports):
        add_to(parser)
    asked = parser.parse_args(arguments)
    if wrong := _contradiction(asked):
        parser.error(wrong)
    return asked


def _models(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("models", "by default those at the endpoint's ModelDataUrl")
    either = group.add_mutually_exclusive_group()
    either.add_argument("--models", metavar="A,B,…", help="TargetModels, the most popular first")
    either.add_argument("--models-from", type=Path, metavar="FILE", help="one on each line")


def _traffic(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "traffic",
        "one request after the other (closed loop), or each at its time, whatever becomes of the "
        "others (open loop: --rate or --trace)",
    )
    add = group.add_argument
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        "--zipf",
        type=quantities.not_negative,
        metavar="S",
        help="the model of rank r is asked for in proportion to 1/r^S; 0: all alike; default: 1",
    )
    either.add_argument(
        "--trace", type=Path, metavar="FILE", help="what `modelyard replay` reads: CSV, log, Azure"
    )
    add("--trace-format", choices=("auto", *FORMATS), default="auto")
    add("--by-rank", action="store_true", help="the trace's most used model is the first, …")
    add("--speed", type=quantities.positive, metavar="X", help="of the trace's time; default: 1")
    pace = group.add_mutually_exclusive_group()
    pace.add_argument(
        "--concurrency",
        type=quantities.count,
        metavar="N",
        help=f"closed loop: so many requests at a time; default: {CONCURRENCY}",
    )
    pace.add_argument(
        "--rate",
        type=quantities.positive,
        metavar="R",
        help="open loop: requests a second, at random moments (Poisson)",
    )
    add(
        "--max-in-flight",
        type=quantities.count,
        metavar="N",
        help=f"open loop: one more waits, and its latency grows; default: {MAX_IN_FLIGHT}",
    )
    add("--duration", type=quantities.duration, metavar="TIME", help="default: 30s, or the trace")
    add("--requests", type=quantities.count, metavar="N", help="end after so many")
    add("--warm-up", type=quantities.whole, default=0, metavar="N", help="first, and not counted")
    add("--seed", type=quantities.whole, default=0, metavar="N", help="another one, other traffic")
    add(
        "--processes",
        type=quantities.count,
        default=1,
        metavar="N",
        help="that send; one sends some hundreds of requests a second",
    )


def _requests(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("requests")
    add = group.add_argument
    body = group.add_mutually_exclusive_group()
    body.add_argument("--body", metavar="FILE", help="what to send; - for standard input")
    body.add_argument("--data", metavar="TEXT", help="what to send")
    add("--bodies", type=Path, metavar="DIR", help="a file for each model: DIR/iris.csv, …")
    add("--content-type", metavar="TYPE", help="default: by the file's name")
    add("--accept", metavar="TYPE", help="the content type to ask for")
    add("--target-variant", metavar="NAME", help="default: by their weights")
    add(
        "--timeout",
        type=quantities.duration,
        default=120.0,
        metavar="TIME",
        help="to wait for an answer; default: 120s",
    )
    add(
        "--not-ready-pause",
        type=quantities.pause,
        default=0.5,
        metavar="TIME",
        help="after ModelNotReadyException the same request is sent again, as its users do; 0: it "
        "is an error; default: 500ms",
    )
    add(
        "--give-up",
        type=quantities.pause,
        default=10.0,
        metavar="TIME",
        help="end when for so long nobody was there to answer; 0: never; default: 10s",
    )


def _place(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where it is")
    either = group.add_mutually_exclusive_group()
    either.add_argument("--aws", action="store_true", help="at AWS, by your keys and region")
    either.add_argument(
        "--url", help=f"default: ${RUNTIME_VARIABLE}, else the data directory knows"
    )
    either.add_argument("--data-dir", metavar="DIR", help="that of `modelyard up`")
    group.add_argument("--region", help="default: as boto3 finds it")


def _reports(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("reports", "besides the text on standard output")
    group.add_argument("--json", type=Path, metavar="FILE", help="all figures, for programs")
    group.add_argument("--html", type=Path, metavar="FILE", help="with plots, in one file")
    group.add_argument("--dry-run", action="store_true", help="say what would be sent")


def _contradiction(asked: argparse.Namespace) -> str:
    """What cannot be meant together; "" for all that can."""
    if asked.trace is None:
        for name in ("speed", "by_rank"):
            if getattr(asked, name):
                return f"--{name.replace('_', '-')} is for a --trace"
    paced = asked.rate is not None or (asked.trace is not None and asked.concurrency is None)
    if asked.speed is not None and (asked.rate is not None or not paced):
        return "--speed is for a trace at its own times: without --rate and --concurrency"
    if asked.max_in_flight is not None and not paced:
        return "--max-in-flight is for --rate or --trace; a closed loop has --concurrency"
    workers = asked.max_in_flight or MAX_IN_FLIGHT if paced else asked.concurrency or CONCURRENCY
    if asked.processes > workers:
        return f"--processes {asked.processes}: there are not more than {workers} in flight"
    return ""
