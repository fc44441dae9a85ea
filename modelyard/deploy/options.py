"""The options of ``modelyard deploy`` and ``undeploy``, and what is wrong with them by itself."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass

from endpoint.api.instance_types import serves_many_models
from modelyard.deploy.image import ImageWish
from modelyard.deploy.plan import Plan
from modelyard.quantities import count

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/.+")
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:.+")
_TYPE = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9-]+")
_BUCKET = re.compile(r"s3://[a-z0-9.-]{3,63}(/.*)?")
_REPOSITORY = re.compile(r"[a-z0-9]+([._/-][a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Trial:
    """A request that is sent when the endpoint is in service."""

    target_model: str
    file: str | None
    text: str | None
    content_type: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What one command line asks for."""

    plan: Plan
    image: ImageWish
    trial: Trial | None
    region: str | None
    dry_run: bool


def parser() -> argparse.ArgumentParser:
    """That of ``modelyard deploy``."""
    made = argparse.ArgumentParser(
        prog="modelyard deploy",
        description="Make or change a multi-model endpoint on SageMaker; what is as asked stays.",
        epilog="Exit code: 0 as asked, 1 AWS refused something, 2 nothing was begun.",
        allow_abbrev=False,
    )
    add = made.add_argument
    add("name", metavar="ENDPOINT", type=_name, help="its name")
    add("--models", metavar="s3://BUCKET/PREFIX/", type=_models, required=True, help="of archives")
    add("--role", metavar="ARN", type=_role, required=True, help="that SageMaker takes on")
    image = made.add_argument_group("image")
    add = image.add_argument
    add("--image", metavar="NAME", help="of this machine, which is pushed, or a URI of ECR")
    add("--build", choices=("cpu", "gpu"), help="build it first, by ./scripts/image")
    add("--extras", default="", metavar="sklearn,…", help="frameworks for --build")
    add(
        "--repository",
        type=_repository,
        default="modelyard",
        metavar="NAME",
        help="of ECR; made if there is none; default: modelyard",
    )
    instances = made.add_argument_group("instances")
    add = instances.add_argument
    add(
        "--instance-type",
        type=_instance_type,
        default="ml.m5.xlarge",
        metavar="TYPE",
        help="default: ml.m5.xlarge",
    )
    add("--instances", type=count, default=1, metavar="N", help="the least there are; default: 1")
    add("--max-instances", type=count, default=0, metavar="N", help="autoscaling up to here")
    add(
        "--invocations-per-minute",
        type=count,
        default=0,
        metavar="N",
        help="its goal for each instance",
    )
    add(
        "--environment",
        action="append",
        type=_variable,
        default=[],
        metavar="NAME=VALUE",
        help="a variable of the container; may be given several times",
    )
    add("--no-model-cache", action="store_true", help="load a model for each request anew")
    add(
        "--alarms",
        nargs="?",
        const="",
        type=_topic,
        metavar="TOPIC_ARN",
        help="make CloudWatch alarms, which tell that topic of SNS",
    )
    trial = made.add_argument_group("a request when it is in service")
    trial.add_argument("--invoke", metavar="TARGET_MODEL", help="the archive, below --models")
    body = trial.add_mutually_exclusive_group()
    body.add_argument("--body", metavar="FILE", help="what to send")
    body.add_argument("--data", metavar="TEXT", help="what to send")
    trial.add_argument("--content-type", metavar="TYPE", help="of the body")
    _add_common(made)
    return made


def removal_parser() -> argparse.ArgumentParser:
    """That of ``modelyard undeploy``."""
    made = argparse.ArgumentParser(
        prog="modelyard undeploy",
        description="Remove an endpoint that `modelyard deploy` made, with all that belongs to "
        "it. Models in S3 and images in ECR stay.",
        epilog="Exit code: 0 there is none any more, 1 AWS refused something, 2 nothing was begun.",
        allow_abbrev=False,
    )
    made.add_argument("name", metavar="ENDPOINT", type=_name, help="its name")
    _add_common(made)
    return made


def _add_common(made: argparse.ArgumentParser) -> None:
    made.add_argument("--region", metavar="NAME", help="default: as AWS's own tools")
    made.add_argument(
        "--dry-run", action="store_true", help="change nothing; print each call that would"
    )


def asked_by(arguments: argparse.Namespace, made: argparse.ArgumentParser) -> Asked:
    """What they ask for together. Ends the command (2) if they do not fit each other."""
    if bool(arguments.max_instances) != bool(arguments.invocations_per_minute):
        made.error("--max-instances and --invocations-per-minute go together")
    if arguments.max_instances and arguments.max_instances < arguments.instances:
        made.error("--max-instances must be at least --instances")
    if arguments.image is None and arguments.build is None:
        made.error("give --image NAME, or --build cpu")
    if arguments.invoke is None and (arguments.body, arguments.data) != (None, None):
        made.error("--body and --data are for --invoke")
    trial = None
    if arguments.invoke is not None:
        sent = (arguments.body, arguments.data, arguments.content_type)
        trial = Trial(arguments.invoke, *sent)
    plan = Plan(
        name=arguments.name,
        models=arguments.models,
        role=arguments.role,
        instance_type=arguments.instance_type,
        instances=arguments.instances,
        most_instances=arguments.max_instances,
        invocations=arguments.invocations_per_minute,
        environment=dict(arguments.environment),
        cache=not arguments.no_model_cache,
        alarms=arguments.alarms,
    )
    wish = ImageWish(
        arguments.image or f"modelyard:{arguments.build}",
        arguments.repository,
        arguments.build,
        arguments.extras,
    )
    return Asked(plan, wish, trial, arguments.region, arguments.dry_run)


# --- values -------------------------------------------------------------------------------------


def _matching(pattern: re.Pattern[str], text: str, must: str) -> str:
    if pattern.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} must be {must}")
    return text


def _name(text: str) -> str:
    return _matching(_NAME, text, "at most 63 letters, digits and single hyphens between them")


def _role(text: str) -> str:
    return _matching(_ROLE, text, "a role's ARN: arn:aws:iam::123456789012:role/NAME")


def _topic(text: str) -> str:
    return (
        _matching(_TOPIC, text, "a topic's ARN: arn:aws:sns:REGION:123456789012:NAME")
        if text
        else ""
    )


def _repository(text: str) -> str:
    return _matching(_REPOSITORY, text, "lower-case letters and digits with ._/- between them")


def _models(text: str) -> str:
    _matching(_BUCKET, text, "a prefix of a bucket: s3://BUCKET/PREFIX/")
    return text if text.endswith("/") else f"{text}/"


def _instance_type(text: str) -> str:
    _matching(_TYPE, text, "an instance type, such as ml.m5.xlarge")
    if not serves_many_models(text):
        raise argparse.ArgumentTypeError(
            f"{text} does not serve many models: SageMaker takes CPU types, and of those with GPUs "
            "such with a single one, as ml.g5.xlarge"
        )
    return text


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=VALUE")
    return name, value
