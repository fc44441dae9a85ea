"""One request to the new endpoint, which shows that it serves."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

from botocore.exceptions import ClientError

from modelyard.deploy.calls import Calls
from modelyard.deploy.options import Trial
from modelyard.deploy.problems import DeployError
from modelyard.invoke import answer_of, content_type_of, in_words, print_answer

SERVICE = "sagemaker-runtime"


def body_of(trial: Trial) -> bytes:
    """What to send, read before anything is begun. Raises DeployError."""
    if trial.file is None:
        return (trial.text or "").encode("utf-8", "surrogateescape")
    try:
        return Path(trial.file).read_bytes()
    except OSError as error:
        raise DeployError(f"--body: {trial.file} cannot be read ({error.strerror})", 2) from error


def invoke(endpoint: str, trial: Trial, body: bytes, calls: Calls) -> None:
    """Send it and print what the model answers. Raises DeployError with what it says instead."""
    request: dict[str, Any] = {"EndpointName": endpoint, "TargetModel": trial.target_model}
    kind = trial.content_type or content_type_of(trial.file, trial.text)
    request |= {"ContentType": kind} if kind else {}
    if calls.dry_run:
        calls.show(_line(request, trial, calls))
        return
    try:
        answer = answer_of(
            lambda: calls.ask(SERVICE, "invoke_endpoint", **request, Body=body)["Body"].read()
        )
    except ClientError as error:
        raise DeployError(f"{endpoint} is in service, but {in_words(error)}") from error
    print_answer(answer)


def _line(request: dict[str, Any], trial: Trial, calls: Calls) -> str:
    """For the AWS CLI, which wants the body as a file and a file for the answer."""
    names = {"EndpointName": "endpoint-name", "TargetModel": "target-model"}
    names |= {"ContentType": "content-type"}
    options = [f"--{names[key]} {quote(value)}" for key, value in request.items()]
    body = f"fileb://{trial.file}" if trial.file else trial.text or ""
    raw = "" if trial.file else "--cli-binary-format raw-in-base64-out "
    return (
        f"aws {SERVICE} invoke-endpoint --region {calls.region} {' '.join(options)} "
        f"{raw}--body {quote(body)} /dev/stdout"
    )
