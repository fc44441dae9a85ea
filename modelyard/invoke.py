"""``modelyard invoke``: one request to an endpoint, as boto3 sends it."""

from __future__ import annotations

import argparse
import mimetypes
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from container.environment import current_environment
from modelyard import aws
from modelyard.address import RUNTIME_VARIABLE, NoEndpoint, address
from modelyard.say import say

# Longer than an invoke may take, by default.
_PATIENCE_SECONDS = 120.0

# A load that takes longer than this fails, by default.
_COLD_START_SECONDS = 420.0

_PAUSE_SECONDS = 0.5
_NOT_READY = "ModelNotReadyException"


class Usage(Exception):
    """Raised when there is nothing to send."""


def main(arguments: Sequence[str]) -> int:
    """Run ``modelyard invoke``; returns the exit code."""
    asked = _options(arguments)
    try:
        request = _request(asked)
        client = _client(asked, current_environment())
        answer = answer_of(lambda: client.invoke_endpoint(**request)["Body"].read())
    except (Usage, NoEndpoint) as error:
        say(f"modelyard invoke: {error}")
        return 2
    except ClientError as error:
        say(f"modelyard invoke: {in_words(error)}")
        return 1
    except BotoCoreError as error:
        say(f"modelyard invoke: {error}")
        return 1
    print_answer(answer)
    return 0


def print_answer(answer: bytes) -> None:
    """As it is; on a terminal with a line's end."""
    sys.stdout.buffer.write(answer)
    if sys.stdout.isatty() and not answer.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.flush()


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="modelyard invoke",
        description="Send an endpoint a request, and print what its container answers.",
        epilog="Exit code: 0 answered, 1 the endpoint or the model failed, 2 nothing was sent.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("endpoint", metavar="ENDPOINT")
    add("target_model", metavar="TARGET_MODEL", nargs="?", help="the archive, below the prefix")
    body = parser.add_mutually_exclusive_group()
    body.add_argument("--body", metavar="FILE", help="what to send; - for standard input")
    body.add_argument("--data", metavar="TEXT", help="what to send")
    add("--content-type", metavar="TYPE", help="of the body; default: by the file's name")
    add("--accept", metavar="TYPE", help="the content type to ask for")
    add("--target-variant", metavar="NAME", help="the variant to ask; default: by their weights")
    add("--url", help=f"of the endpoint; default: ${RUNTIME_VARIABLE}, else the data directory")
    add("--data-dir", metavar="DIR", help="that of `modelyard up`")
    return parser.parse_args(arguments)


def _request(asked: argparse.Namespace) -> dict[str, Any]:
    """The members of InvokeEndpoint."""
    optional = {
        "TargetModel": asked.target_model,
        "TargetVariant": asked.target_variant,
        "Accept": asked.accept,
        "ContentType": asked.content_type or content_type_of(asked.body, asked.data),
    }
    given = {name: value for name, value in optional.items() if value}
    return {"EndpointName": asked.endpoint, "Body": _body(asked), **given}


def _body(asked: argparse.Namespace) -> bytes:
    if asked.body is None:
        return str(asked.data or "").encode("utf-8", "surrogateescape")
    if asked.body == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(asked.body).read_bytes()
    except OSError as error:
        raise Usage(f"--body: {asked.body} cannot be read ({error.strerror})") from error


def content_type_of(file: str | None, text: str | None) -> str | None:
    """That of a body: by the file's name, or because it looks like JSON."""
    if file not in (None, "-"):
        return mimetypes.guess_type(file)[0]
    looks_like_json = (text or "").lstrip().startswith(("{", "["))
    return "application/json" if looks_like_json else None


def _client(asked: argparse.Namespace, environment: Mapping[str, str]) -> Any:
    found = address(asked.url, asked.data_dir, environment)
    return aws.client(
        "sagemaker-runtime", found.runtime, region=found.region, patience_seconds=_PATIENCE_SECONDS
    )


def answer_of(invoke: Callable[[], bytes]) -> bytes:
    """What the container answers, after a cold start if need be. Raises what boto3 raises."""
    deadline = time.monotonic() + _COLD_START_SECONDS
    while True:
        try:
            return invoke()
        except ClientError as error:
            if error.response["Error"]["Code"] != _NOT_READY or time.monotonic() > deadline:
                raise
            say("the model is still being loaded; waiting for it")
            time.sleep(_PAUSE_SECONDS)


def in_words(error: ClientError) -> str:
    """The endpoint's message, and the container's own words if there are any."""
    told = error.response["Error"]
    message = told.get("Message") or error.response.get("Message") or str(error)
    words = error.response.get("OriginalMessage")
    status = error.response.get("OriginalStatusCode")
    if not words or words in message:
        return f"{told['Code']}: {message}"
    return f"{told['Code']}: {message}\n{status}: {words}"
