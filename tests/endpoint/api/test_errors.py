"""Each error arrives as the exception that boto3 has for it, in every retry mode."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from endpoint import errors
from endpoint.invocation import Reply
from tests.endpoint.api.running import RunningApi

MODES = ["legacy", "standard", "AWS_NEW_RETRIES_2026"]

MODEL_ERROR = errors.ModelError(
    'Received client error (404) from primary with message "no"',
    original_status=404,
    original="no",
    log="arn:aws:logs:us-east-1:000000000000:log-group:/aws/sagemaker/Endpoints/ep",
)


@pytest.fixture(params=MODES)
def runtime(
    request: pytest.FixtureRequest, api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], Any]:
    """Clients with so many attempts; of the third mode the client says nothing of the mode."""
    if request.param == "AWS_NEW_RETRIES_2026":
        monkeypatch.setenv(request.param, "true")
        mode = {}
    else:
        mode = {"mode": request.param}
    return lambda attempts: api.client(
        "sagemaker-runtime", retries={**mode, "total_max_attempts": attempts}
    )


@pytest.mark.parametrize(
    ("error", "name", "status"),
    [
        (errors.ValidationError("no"), "ValidationError", 400),
        (errors.ModelNotReady("no"), "ModelNotReadyException", 429),
        (errors.InternalFailure("no"), "InternalFailure", 500),
        (errors.ServiceUnavailable("no"), "ServiceUnavailable", 503),
        (errors.InternalDependency("no"), "InternalDependencyException", 530),
        (MODEL_ERROR, "ModelError", 424),
    ],
)
def test_it_has_a_class_of_its_own(
    api: RunningApi, runtime: Callable[[int], Any], error: errors.ApiError, name: str, status: int
) -> None:
    api.backend.answers = [error]
    client = runtime(1)
    with pytest.raises(getattr(client.exceptions, name)) as raised:
        client.invoke_endpoint(EndpointName="ep", Body=b"")
    answer = raised.value.response
    assert answer["Error"]["Code"] == name
    assert answer["Error"]["Message"] == error.message
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == status
    assert answer["ResponseMetadata"]["RequestId"] == api.backend.invocations[0].request_id


def test_a_model_error_brings_the_containers_words(
    api: RunningApi, runtime: Callable[[int], Any]
) -> None:
    api.backend.answers = [MODEL_ERROR]
    client = runtime(5)
    with pytest.raises(client.exceptions.ModelError) as raised:
        client.invoke_endpoint(EndpointName="ep", Body=b"")
    answer = raised.value.response
    assert answer["OriginalStatusCode"] == 404
    assert answer["OriginalMessage"] == "no"
    assert answer["LogStreamArn"] == MODEL_ERROR.log
    assert len(api.backend.invocations) == 1, "nobody retries it"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.AccessDenied("no"), "AccessDeniedException"),
        (errors.NoSignature("no"), "MissingAuthenticationTokenException"),
        (errors.UnknownKey("no"), "UnrecognizedClientException"),
        (errors.BadSignature("no"), "InvalidSignatureException"),
    ],
)
def test_errors_of_every_service_have_their_codes(
    api: RunningApi, runtime: Callable[[int], Any], error: errors.ApiError, code: str
) -> None:
    api.backend.answers = [error]
    with pytest.raises(ClientError) as raised:
        runtime(1).invoke_endpoint(EndpointName="ep", Body=b"")
    assert raised.value.response["Error"] == {"Code": code, "Message": "no"}
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize(("mode", "attempts"), [("legacy", 2), ("standard", 1)])
def test_only_legacy_clients_ask_again_while_a_model_loads(
    api: RunningApi, mode: str, attempts: int
) -> None:
    api.backend.answers = [errors.ModelNotReady("later"), Reply(200, (), b"ready")]
    client = api.client("sagemaker-runtime", retries={"mode": mode, "total_max_attempts": 2})
    if attempts == 1:
        with pytest.raises(client.exceptions.ModelNotReadyException):
            client.invoke_endpoint(EndpointName="ep", Body=b"")
    else:
        assert client.invoke_endpoint(EndpointName="ep", Body=b"")["Body"].read() == b"ready"
    assert len(api.backend.invocations) == attempts


@pytest.mark.parametrize("error", [errors.ServiceUnavailable("no"), errors.InternalFailure("no")])
def test_every_client_asks_again_when_the_endpoint_was_at_fault(
    api: RunningApi, runtime: Callable[[int], Any], error: errors.ApiError
) -> None:
    api.backend.answers = [error, Reply(200, (), b"ready")]
    answer = runtime(2).invoke_endpoint(EndpointName="ep", Body=b"")
    assert answer["Body"].read() == b"ready"
    assert answer["ResponseMetadata"]["RetryAttempts"] == 1


def test_a_fault_of_ours_is_told_in_the_log_only(
    api: RunningApi, runtime: Callable[[int], Any], caplog: pytest.LogCaptureFixture
) -> None:
    api.backend.answers = [ZeroDivisionError("a secret")]
    client = runtime(1)
    with (
        caplog.at_level(logging.ERROR, "modelyard.endpoint"),
        pytest.raises(client.exceptions.InternalFailure) as raised,
    ):
        client.invoke_endpoint(EndpointName="ep", Body=b"")
    assert "secret" not in str(raised.value)
    (record,) = caplog.records
    assert api.backend.invocations[0].request_id in record.getMessage()
    assert "ZeroDivisionError: a secret" in caplog.text


def test_messages_that_are_long_or_no_text_arrive_all_the_same(
    api: RunningApi, runtime: Callable[[int], Any]
) -> None:
    api.backend.answers = [
        errors.ModelError("\udcff" * 5000, original_status=500, original="\udcff\x00" * 5000)
    ]
    client = runtime(1)
    with pytest.raises(client.exceptions.ModelError) as raised:
        client.invoke_endpoint(EndpointName="ep", Body=b"")
    assert raised.value.response["Error"]["Message"] == "?" * 2048
