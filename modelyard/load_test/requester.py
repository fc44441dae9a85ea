"""One request as boto3 sends it, and what became of it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
)
from urllib3.exceptions import HTTPError

from modelyard import aws
from modelyard.load_test.wire import Body, Job

_LOADING_WAIT = "x-modelyard-loading-wait-time"
_NOT_READY = "ModelNotReadyException"
_MODEL_ERROR = "ModelError"

# A model's load ends within this time, by default, or fails.
_LOAD_SECONDS = 420.0

# As long as all requests end so, there is nobody who could answer one.
_NOBODY_THERE = (EndpointConnectionError, ConnectTimeoutError, NoCredentialsError)
_KEYS_REFUSED = frozenset(
    {
        *("AccessDeniedException", "AccessDenied", "ExpiredTokenException", "ExpiredToken"),
        *("InvalidSignatureException", "SignatureDoesNotMatch", "UnrecognizedClientException"),
        *("InvalidClientTokenId", "MissingAuthenticationTokenException"),
    }
)

_WORDS_CHARS = 1000


class Answer(NamedTuple):
    """See ``wire.Outcome``."""

    loading_wait: float | None = None
    not_ready: int = 0
    kind: str = ""
    words: str = ""
    hopeless: bool = False


class Requester:
    """Sends requests of a job, from any thread. Raises BotoCoreError."""

    def __init__(self, job: Job, stopped: threading.Event) -> None:
        self._job = job
        self._stopped = stopped
        self._client = aws.client(
            "sagemaker-runtime",
            job.place.runtime,
            region=job.place.region,
            patience_seconds=job.patience_seconds,
            connections=job.workers,
        )

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def send(self, model: int) -> Answer:
        """Send one, again and again while its model is being loaded. Raises nothing."""
        not_ready = 0
        deadline = time.monotonic() + _LOAD_SECONDS
        while True:
            answer = self._send_once(model)
            if answer.kind != _NOT_READY:
                return answer._replace(not_ready=not_ready)
            not_ready += 1
            pause = self._job.not_ready_pause_seconds
            if not pause or time.monotonic() > deadline or self._stopped.wait(pause):
                return answer._replace(not_ready=not_ready)

    def _send_once(self, model: int) -> Answer:
        try:
            found = self._client.invoke_endpoint(**self._request(model))
            found["Body"].read()
        except ClientError as error:
            return _refusal(error)
        except (BotoCoreError, HTTPError, OSError) as error:
            hopeless = isinstance(error, _NOBODY_THERE)
            words = str(error)[:_WORDS_CHARS]
            return Answer(kind=type(error).__name__, words=words, hopeless=hopeless)
        waited = found["ResponseMetadata"]["HTTPHeaders"].get(_LOADING_WAIT, "")
        return Answer(int(waited) / 1e6 if waited.isdecimal() else None)

    def _request(self, model: int) -> dict[str, Any]:
        job = self._job
        body = job.bodies[model if len(job.bodies) > 1 else 0]
        optional = {
            "TargetModel": job.targets[model],
            "TargetVariant": job.target_variant,
            "Accept": job.accept,
            "ContentType": body.content_type,
        }
        given = {name: value for name, value in optional.items() if value}
        return {"EndpointName": job.endpoint, "Body": _bytes(body), **given}


def _bytes(body: Body) -> bytes:
    """Files are read each time: the kernel keeps them, once for all senders."""
    return Path(body.file).read_bytes() if body.file else body.data


def _refusal(error: ClientError) -> Answer:
    told = error.response.get("Error", {})
    code = str(told.get("Code", "unknown"))
    words = str(told.get("Message") or error.response.get("Message") or error)
    original = error.response.get("OriginalMessage")
    gone = code == "ValidationError" and words.startswith("Endpoint ") and "not found" in words
    if original and original not in words:
        words = f"{words} {original}"
    if code == _MODEL_ERROR:
        code = f"{code} {error.response.get('OriginalStatusCode', '')}".rstrip()
    hopeless = gone or code in _KEYS_REFUSED
    return Answer(kind=code, words=words[:_WORDS_CHARS], hopeless=hopeless)
