"""``modelyard up``: a multi-model endpoint on this machine, with an S3, for boto3 as it is.

What a shell is to evaluate goes to standard output, and nothing else does.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any

from container.environment import (
    add_options,
    current_environment,
    option_name,
    settings_from,
    unknown_variables,
)
from endpoint.settings import EndpointSettings
from endpoint.settings import SettingsError as EndpointSettingsError
from model_server.settings import SettingsError
from modelyard.data_dir import DataDir, DataDirError, Running

# Python, its packages and an S3 start in some seconds; an older laptop may take a while.
_START_SECONDS = 120.0

# Beyond what instances may take to stop.
_STOP_SECONDS = 30.0

_LOG_LINES = 20


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
    except (SettingsError, EndpointSettingsError, DataDirError) as error:
        say(f"modelyard up: {error}")
        return 2


def say(text: str) -> None:
    """Tell the user; standard output is for the shell."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def need(command: str, *modules: str) -> None:
    """Raise Failed unless these packages are installed."""
    missing = [module.partition(".")[0] for module in modules if find_spec(module) is None]
    if missing:
        raise Failed(f"{', '.join(missing)} not installed: pip install 'modelyard[up]'")


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
    settings = settings_from(EndpointSettings, environment, options)
    _check(asked)
    need("aiohttp", "boto3")
    for name, meant in unknown_variables(environment, endpoint=EndpointSettings).items():
        say(f"{name} is no setting{f'; did you mean {meant}?' if meant else ''}")
    data = DataDir(settings.data_dir)
    with ExitStack() as stack:
        process = None
        if data.holder() is None:
            process = _start(asked, settings, environment, data)
            stack.callback(_stop, process, settings)
        running = _wait_until_ready(data, process)
        target = _serve_folder(asked, settings, running)
        _tell(asked, data, running, process, target)
        if process is None or asked.detach:
            stack.pop_all()
            return 0
        return process.wait()


def _check(asked: Asked) -> None:
    if asked.models is None and (asked.name is not None or asked.instances != 1):
        raise Failed("--name and --instances are of the endpoint that --models DIR makes")
    if asked.models is not None and not asked.models.is_dir():
        raise Failed(f"--models: there is no folder {asked.models}")


# --- the process ------------------------------------------------------------------------------


def _start(
    asked: Asked, settings: EndpointSettings, environment: Mapping[str, str], data: DataDir
) -> subprocess.Popen[bytes]:
    from modelyard import aws
    from modelyard.up_process import OWN_S3

    s3 = _s3(asked, settings, environment)
    if s3 == OWN_S3:
        need("moto.server", "flask_cors")
    ours = bool(s3) and not settings.access_file
    command = [sys.executable, "-P", "-m", "modelyard.up_process", f"--s3={s3}"]
    with ExitStack() as stack:
        output: Any = None
        if asked.detach:
            data.path.mkdir(parents=True, exist_ok=True)
            output = stack.enter_context(data.log.open("ab"))
        return subprocess.Popen(
            [*command, *([] if asked.detach else ["--attached"]), *_as_options(settings, data)],
            env={**environment, **aws.missing_keys(ours=ours)},
            stdin=subprocess.DEVNULL if asked.detach else subprocess.PIPE,
            stdout=output or sys.stderr,
            stderr=output,
            start_new_session=True,  # Ctrl-C is the command's; it then stops the endpoint in order
        )


def _s3(asked: Asked, settings: EndpointSettings, environment: Mapping[str, str]) -> str:
    """What the process is told of an S3."""
    from modelyard.own_s3 import OwnS3
    from modelyard.up_process import OWN_S3

    if asked.s3 is not None or not asked.own_s3:
        return asked.s3 or ""
    from modelyard import aws

    given = environment.get(aws.S3_VARIABLE, "")
    own = OwnS3(DataDir(settings.data_dir).path, settings.port)
    # Of an earlier life of ours, whose lines the shell has evaluated.
    return OWN_S3 if not given or own.is_at(given) else given


def _as_options(settings: EndpointSettings, data: DataDir) -> list[str]:
    """Settings that are not the defaults, wherever they came from."""
    found = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name == "data_dir":
            value = data.path
        elif value == field.default:
            continue
        text = " ".join(value) if isinstance(value, tuple) else str(value)
        found.append(f"{option_name(field)}={text}")
    return found


def _wait_until_ready(data: DataDir, process: subprocess.Popen[bytes] | None) -> Running:
    """What runs. Raises Failed with its reason if it does not come up."""
    start = data.log.stat().st_size if data.log.exists() else 0
    running = data.wait_until_running(
        _START_SECONDS, lambda: process is not None and process.poll() is not None
    )
    if running is not None:
        return running
    if process is None:
        raise Failed(f"what runs on {data.path} is not ready; stop it with: modelyard down", 1)
    if process.poll() is None:
        raise Failed(f"the endpoint was not ready after {_START_SECONDS:.0f} s", 1)
    raise Failed(_last_words(data.log, start), process.returncode or 1)


def _last_words(log: Path, start: int) -> str:
    """Why it ended; what is in the terminal already is not said again."""
    from modelyard.up_process import FAILED

    lines: list[str] = []
    with suppress(FileNotFoundError), log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").splitlines()
    reasons = [line.partition(FAILED)[2] for line in lines if FAILED in line]
    return "\n".join(["the endpoint did not start", *(reasons or lines[-_LOG_LINES:])])


def _stop(process: subprocess.Popen[bytes], settings: EndpointSettings) -> None:
    """End it, as Ctrl-C does; also when what we wanted of it did not work."""
    if process.poll() is not None:
        return
    say("stopping the endpoint and its instances")
    process.terminate()
    try:
        process.wait(2 * settings.stop_timeout_seconds + _STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        say("it did not stop and was killed; `modelyard down` stops what it left")


# --- what it is for ---------------------------------------------------------------------------


def _serve_folder(asked: Asked, settings: EndpointSettings, running: Running) -> list[str]:
    """The endpoint of ``--models``, if any: the words that invoke it."""
    if asked.models is None:
        return []
    from botocore.exceptions import BotoCoreError, ClientError

    from modelyard import aws
    from modelyard.endpoint_of_folder import (
        EndpointFailed,
        FolderEndpoint,
        archives_in,
        name_of,
    )

    name = asked.name or name_of(asked.models)
    try:
        client = aws.client(
            "sagemaker", running.url, region=running.region, patience_seconds=_START_SECONDS
        )
        FolderEndpoint(client, settings.account, name, asked.models, asked.instances).ensure(say)
    except (BotoCoreError, ClientError, EndpointFailed) as error:
        raise Failed(str(error), 1) from error
    archives = archives_in(asked.models)
    if not archives:
        say(f"there is no archive in {asked.models} yet; `modelyard pack` makes one of a model")
    return [name, archives[0] if archives else "MODEL.tar.gz"]


def _tell(
    asked: Asked,
    data: DataDir,
    running: Running,
    process: subprocess.Popen[bytes] | None,
    target: list[str],
) -> None:
    from modelyard import aws

    if process is None:
        say(f"an endpoint runs on {data.path} already, as process {running.pid}")
    elif not asked.detach:
        say("ready; for boto3 in another shell:")
    for name, value in aws.exports(running).items():
        print(f"export {name}={quote(value)}", flush=True)  # noqa: T201
    if target:
        words = " ".join(map(quote, target))
        say(f"try: modelyard invoke {words} --body FILE --content-type TYPE")
    if process is not None:
        stop = "modelyard down" if asked.detach else "Ctrl-C"
        say(f"{stop} stops it{f'; its log is {data.log}' if asked.detach else ''}")
