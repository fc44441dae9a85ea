"""InvokeEndpoint with boto3: what reaches the container, what reaches the client."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from endpoint.invocation import Reply
from tests.endpoint.api.running import RunningApi

JSON = "application/json"


def refused(runtime: Any, **members: Any) -> str:
    """The message of the ValidationError that the request gets."""
    with pytest.raises(runtime.exceptions.ValidationError) as raised:
        runtime.invoke_endpoint(**{"EndpointName": "ep", "Body": b"", **members})
    error = raised.value.response
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 400
    return str(error["Error"]["Message"])


def test_a_request_reaches_the_backend_as_it_was_sent(api: RunningApi, runtime: Any) -> None:
    runtime.invoke_endpoint(
        EndpointName="My-endpoint",
        Body=b"\x00\xff body",
        ContentType=JSON,
        Accept="text/csv",
        CustomAttributes="a=b",
        TargetModel="company a/m-1.tar.gz",
        TargetVariant="Blue",
        InferenceId="id 1",
        SessionId="NEW_SESSION",
    )
    (seen,) = api.backend.invocations
    assert seen.endpoint == "My-endpoint"
    assert seen.body == b"\x00\xff body"
    assert seen.target_model == "company a/m-1.tar.gz"
    assert seen.target_variant == "Blue"
    assert seen.headers == (
        ("Content-Type", JSON),
        ("Accept", "text/csv"),
        ("X-Amzn-SageMaker-Custom-Attributes", "a=b"),
        ("X-Amzn-SageMaker-Target-Model", "company a/m-1.tar.gz"),
        ("X-Amzn-SageMaker-Inference-Id", "id 1"),
        ("X-Amzn-SageMaker-Session-Id", "NEW_SESSION"),
        ("X-Amzn-SageMaker-Forwarded-Api", "InvokeEndpoint"),
    )


def test_the_container_sees_nothing_that_was_not_given(api: RunningApi, runtime: Any) -> None:
    runtime.invoke_endpoint(EndpointName="ep", Body=b"x", ContentType=JSON)
    (seen,) = api.backend.invocations
    assert seen.headers == (
        ("Content-Type", JSON),
        ("X-Amzn-SageMaker-Forwarded-Api", "InvokeEndpoint"),
    )
    assert seen.target_model is None
    assert seen.target_variant is None


def test_the_request_id_is_the_same_on_both_sides(api: RunningApi, runtime: Any) -> None:
    answer = runtime.invoke_endpoint(EndpointName="ep", Body=b"")
    (seen,) = api.backend.invocations
    assert answer["ResponseMetadata"]["RequestId"] == seen.request_id


def test_the_client_gets_the_body_and_the_headers_of_the_platform(
    api: RunningApi, runtime: Any
) -> None:
    api.backend.answers = [
        Reply(
            201,
            (
                ("content-type", "text/csv; charset=utf-8"),
                ("x-amzn-sagemaker-custom-attributes", "trace=1"),
                ("X-Amzn-SageMaker-New-Session-Id", "s1; Expires=2026-01-01T00:00:00Z"),
                ("X-Amzn-SageMaker-Closed-Session-Id", "s0"),
                ("X-Internal", "secret"),
                ("Set-Cookie", "a=b"),
                ("Server", "nginx"),
            ),
            b"1,2\n\xff",
            "Blue",
        )
    ]
    answer = runtime.invoke_endpoint(EndpointName="ep", Body=b"")
    assert answer["Body"].read() == b"1,2\n\xff"
    assert answer["ContentType"] == "text/csv; charset=utf-8"
    assert answer["InvokedProductionVariant"] == "Blue"
    assert answer["CustomAttributes"] == "trace=1"
    assert answer["NewSessionId"] == "s1; Expires=2026-01-01T00:00:00Z"
    assert answer["ClosedSessionId"] == "s0"
    metadata = answer["ResponseMetadata"]
    assert metadata["HTTPStatusCode"] == 200
    assert not {"x-internal", "set-cookie"} & set(metadata["HTTPHeaders"])
    assert metadata["HTTPHeaders"]["server"] != "nginx"


def test_a_new_session_may_be_spelt_as_older_containers_do(api: RunningApi, runtime: Any) -> None:
    new = ("X-Amzn-SageMaker-Session-Id", "s1; Expires=2026-01-01T00:00:00Z")
    echo = ("X-Amzn-SageMaker-Session-Id", "s1")
    api.backend.answers = [Reply(200, (new,), b""), Reply(200, (echo,), b"")]
    answer = runtime.invoke_endpoint(EndpointName="ep", Body=b"")
    assert answer["NewSessionId"] == "s1; Expires=2026-01-01T00:00:00Z"
    assert "NewSessionId" not in runtime.invoke_endpoint(EndpointName="ep", Body=b"")


def test_headers_of_a_container_that_are_no_text_harm_nobody(api: RunningApi, runtime: Any) -> None:
    odd = ("X-Amzn-SageMaker-Custom-Attributes", "a\udcff\r\nb: c")
    api.backend.answers = [Reply(200, (odd,), b"fine")]
    answer = runtime.invoke_endpoint(EndpointName="ep", Body=b"")
    assert answer["Body"].read() == b"fine"
    assert answer["CustomAttributes"] == "a?  b: c"


def test_one_slash_at_the_front_of_target_model_is_dropped(api: RunningApi, runtime: Any) -> None:
    runtime.invoke_endpoint(EndpointName="ep", Body=b"", TargetModel="/a/b.tar.gz")
    (seen,) = api.backend.invocations
    assert seen.target_model == "a/b.tar.gz"
    assert ("X-Amzn-SageMaker-Target-Model", "a/b.tar.gz") in seen.headers


@pytest.mark.parametrize(
    "target", ["..", "../m.tar.gz", "a/../../m.tar.gz", "a/..", "//etc/x", "/", "./m", "/../m"]
)
def test_target_model_stays_below_the_prefix(runtime: Any, target: str) -> None:
    assert refused(runtime, TargetModel=target).startswith(f"Invalid TargetModel '{target}'")


@pytest.mark.parametrize("target", ["a..b.tar.gz", "...", "a/b c.tar.gz", "a%2Fb+c=~.tar.gz"])
def test_target_model_goes_through_as_it_is(api: RunningApi, runtime: Any, target: str) -> None:
    runtime.invoke_endpoint(EndpointName="ep", Body=b"", TargetModel=target)
    assert api.backend.invocations[0].target_model == target


def test_what_breaks_a_limit_is_told_in_the_platforms_words(runtime: Any) -> None:
    assert refused(runtime, EndpointName="my_endpoint") == (
        "1 validation error detected: Value 'my_endpoint' at 'endpointName' failed to satisfy "
        "constraint: Member must satisfy regular expression pattern: "
        "^[a-zA-Z0-9](-*[a-zA-Z0-9])*"
    )
    assert refused(runtime, EndpointName="a" * 64).endswith(
        "at 'endpointName' failed to satisfy constraint: "
        "Member must have length less than or equal to 63"
    )


@pytest.mark.parametrize("name", ["a b", "a/b", "-a", "a-", "é", "a%b"])
def test_names_that_are_none_are_refused(runtime: Any, name: str) -> None:
    message = refused(runtime, EndpointName=name)
    assert f"Value '{name}' at 'endpointName'" in message


@pytest.mark.parametrize(
    ("member", "value", "at"),
    [
        ("TargetModel", "m" * 1025, "targetModel"),
        ("CustomAttributes", "x" * 1025, "customAttributes"),
        ("CustomAttributes", "x" * 20_000, "customAttributes"),
        ("ContentType", "x" * 1025, "contentType"),
        ("Accept", "x" * 1025, "accept"),
        ("InferenceId", "i" * 65, "inferenceId"),
        ("TargetVariant", "a_b", "targetVariant"),
        ("SessionId", "a b", "sessionId"),
        ("TargetModel", "mod\xe8le.tar.gz", "targetModel"),
    ],
)
def test_each_header_has_its_limits(runtime: Any, member: str, value: str, at: str) -> None:
    message = refused(runtime, **{member: value})
    assert message.startswith("1 validation error detected: Value '")
    assert f"at '{at}' failed to satisfy constraint: Member must" in message


def test_all_that_is_wrong_is_told_at_once(runtime: Any) -> None:
    message = refused(runtime, EndpointName="a_b", TargetVariant="c_d")
    assert message.startswith("2 validation errors detected: Value 'a_b' at 'endpointName'")
    assert "; Value 'c_d' at 'targetVariant'" in message


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("TargetContainerHostname", "second"),
        ("InferenceComponentName", "component"),
        ("EnableExplanations", "`true`"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(runtime: Any, member: str, value: str) -> None:
    assert refused(runtime, **{member: value}).startswith(f"{member} is not supported here")


def test_streaming_and_async_calls_say_what_to_use(runtime: Any) -> None:
    with pytest.raises(ClientError, match="InvokeEndpointAsync is not supported here") as raised:
        runtime.invoke_endpoint_async(EndpointName="ep", InputLocation="s3://b/k")
    assert raised.value.response["Error"]["Code"] == "ValidationError"
    with pytest.raises(ClientError, match="InvokeEndpointWithResponseStream is not") as raised:
        runtime.invoke_endpoint_with_response_stream(EndpointName="ep", Body=b"x" * 100_000)
    assert raised.value.response["Error"]["Code"] == "ValidationError"
