"""``modelyard up``: a multi-model endpoint on this machine, with an S3, for boto3 as it is.

What a shell is to evaluate goes to standard output, and nothing else does.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from shlex import quote

from botocore.exceptions import BotoCoreError, ClientError

from container.environment import (
    add_options,
    current_environment,
    settings_from,
    unknown_variables,
)
from endpoint.settings import EndpointSettings
from modelyard import aws
from modelyard.address import S3_VARIABLE
from modelyard.data_dir import DataDir, DataDirError, Running
from modelyard.endpoint_of_folder import EndpointFailed, FolderEndpoint, archives_in, name_of
from modelyard.endpoint_process import OWN_S3, START_SECONDS, DidNotStart, EndpointProcess
from modelyard.ignored import ignored, ignored_s3
from modelyard.image_of_up import Image, NoImage, find, settings_with
from modelyard.own_s3 import OwnS3
from modelyard.say import say


class Failed(Exception):
    """Raised with what the user is told; ``code`` is the exit code."""

    def __init__(self, text: str, code: int = 2) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Asked:
    """What ``modelyard up`` is to do, besides settings."""

    detach: bool
    models: Path | None
    name: str | None
    instances: int
    image: str | None
    s3: str | None  # the URL of one that runs
    own_s3: bool


def main(arguments: Sequence[str]) -> int:
    """Run ``modelyard up``; returns the exit code."""
    options = vars(_parser().parse_args(arguments))
    asked = Asked(**{field.name: options.pop(field.name) for field in fields(Asked)})
    try:
        return _up(asked, options)
    except Failed as error:
        say(f"modelyard up: {error}")
        return error.code
    except DidNotStart as error:
        say(f"modelyard up: {error}")
        return error.code
    except (DataDirError, NoImage, BotoCoreError) as error:
        say(f"modelyard up: {error}")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="modelyard up",
        description="Run a multi-model endpoint on this machine, and an S3 for its models.",
        epilog='In a shell: eval "$(modelyard up --detach)" makes boto3 talk to it.',
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--detach", "-d", action="store_true", help="return when it is ready; it goes on")
    add("--models", type=Path, metavar="DIR", help="make an endpoint of a folder of archives")
    add("--name", help="of that endpoint; default: the folder's name")
    add("--instances", type=_count, default=1, metavar="N", help="of that endpoint; default: 1")
    add("--image", help="have containers of this image serve it, in a `docker` fleet")
    s3 = parser.add_mutually_exclusive_group()
    s3.add_argument(
        "--s3-endpoint-url", dest="s3", metavar="URL", help="use this S3 instead of our own"
    )
    s3.add_argument(
        "--no-s3", dest="own_s3", action="store_false", help="start none; s3:// is AWS's then"
    )
    add_options(parser.add_argument_group("settings"), EndpointSettings)
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 1")
    return int(text)


def _up(asked: Asked, options: dict[str, str]) -> int:
    environment = current_environment()
    settings = settings_with(asked.image, environment, options)
    _check(asked)
    for name, meant in unknown_variables(environment, endpoint=EndpointSettings).items():
        say(f"{name} is no setting{f'; did you mean {meant}?' if meant else ''}")
    data = DataDir(settings.data_dir)
    if data.holder() is not None:
        running = _already(data)
        for text in (
            *ignored(settings, options, running),
            *ignored_s3(asked.s3, running, own_s3=asked.own_s3),
        ):
            say(f"{text}; `modelyard down` first to change it")
        its_own = settings_from(EndpointSettings, {}, running.settings)
        image = find(asked.image, its_own, environment)
        _tell(running, _serve_folder(asked, settings, running, image), "modelyard down")
        return 0
    image = find(asked.image, settings, environment)
    with ExitStack() as stack:
        process = _start(asked, settings, environment, data)
        stack.callback(_stop, process)
        running = process.until_ready()
        invoke = _serve_folder(asked, settings, running, image)
        if asked.detach:
            _tell(running, invoke, "modelyard down")
            say(f"its log is {data.log}")
            stack.pop_all()
            return 0
        say("ready; for boto3 in another shell:")
        _tell(running, invoke, "Ctrl-C")
        return process.wait()


def _check(asked: Asked) -> None:
    of_models = asked.name is not None or asked.instances != 1 or asked.image is not None
    if asked.models is None and of_models:
        raise Failed("--name, --instances and --image are of the endpoint that --models DIR makes")
    if asked.models is not None and not asked.models.is_dir():
        raise Failed(f"--models: there is no folder {asked.models}")


def _start(
    asked: Asked, settings: EndpointSettings, environment: Mapping[str, str], data: DataDir
) -> EndpointProcess:
    s3 = _s3(asked, settings, environment, data)
    keys = aws.missing_keys(own_s3=s3 == OWN_S3)
    return EndpointProcess(settings, {**environment, **keys}, data, s3=s3, detached=asked.detach)


def _s3(
    asked: Asked, settings: EndpointSettings, environment: Mapping[str, str], data: DataDir
) -> str:
    """What the process is told of an S3."""
    if asked.s3 is not None or not asked.own_s3:
        return asked.s3 or ""
    given = environment.get(S3_VARIABLE, "")
    # It may be of an earlier life of ours, whose lines this shell has evaluated.
    return OWN_S3 if not given or OwnS3(data.path, settings.port).is_at(given) else given


def _stop(process: EndpointProcess) -> None:
    if process.runs:
        say("stopping the endpoint and its instances")
    if not process.stop():
        say("it did not stop and was killed; `modelyard down` stops what it left")


def _already(data: DataDir) -> Running:
    """What runs there, as soon as it is ready."""
    running = data.wait_until_running(START_SECONDS, lambda: data.holder() is None)
    if running is None:
        raise Failed(f"what runs on {data.path} is not ready; `modelyard down` stops it", 1)
    say(f"an endpoint runs on {data.path} already, as process {running.pid}")
    return running


# --- what it is for ---------------------------------------------------------------------------


def _serve_folder(
    asked: Asked, settings: EndpointSettings, running: Running, image: Image | None
) -> str:
    """Make the endpoint of ``--models``, if any; returns how it is invoked."""
    if asked.models is None:
        return ""
    name = asked.name or name_of(asked.models)
    try:
        client = aws.client(
            "sagemaker", running.url, region=running.region, patience_seconds=START_SECONDS
        )
        FolderEndpoint(client, settings.account, name, asked.models, asked.instances, image).ensure(
            say
        )
    except (BotoCoreError, ClientError, EndpointFailed) as error:
        raise Failed(str(error), 1) from error
    archives = archives_in(asked.models)
    if not archives:
        say(f"there is no archive in {asked.models} yet; `modelyard pack` makes one of a model")
    words = [name, archives[0] if archives else "MODEL.tar.gz"]
    return f"modelyard invoke {' '.join(map(quote, words))} --body FILE --content-type TYPE"


def _tell(running: Running, invoke: str, stop: str) -> None:
    for name, value in aws.exports(running).items():
        print(f"export {name}={quote(value)}", flush=True)  # noqa: T201
    if invoke:
        say(f"try: {invoke}")
    say(f"{stop} stops it")
