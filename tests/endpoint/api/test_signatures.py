"""Signed requests of boto3 against an access file; the server's clock is the test's."""

from __future__ import annotations

import calendar
import http.client
import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from endpoint.api.signatures import Access
from endpoint.settings import EndpointSettings, SettingsError
from tests.endpoint.api.requests import model
from tests.endpoint.api.running import SESSION, RunningApi

KEYS: list[dict[str, Any]] = [
    {"access_key_id": "AKALL"},
    {"access_key_id": "AKTENANT", "target_models": ["company_a/*", "shared-?.tar.gz", "[x]*"]},
    {"access_key_id": "AKINVOKE", "actions": ["sagemaker:invokeendpoint"]},
    {"access_key_id": "AKREAD", "actions": ["sagemaker:Describe*", "sagemaker:List*"]},
    {"access_key_id": "AKANY", "target_models": ["*"]},
    {"access_key_id": "AKSTATUS", "actions": ["sagemaker:GetStatus"]},
    {"access_key_id": "AKNOTHING", "actions": [], "target_models": []},
]
SKEW = 15 * 60


class Clock:
    """Runs beside the real one."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


clock = Clock()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    directory = tmp_path_factory.mktemp("access")
    file = directory / "access.json"
    file.write_text(json.dumps({"keys": [{**key, "secret_access_key": "secret"} for key in KEYS]}))
    running = RunningApi(directory, clock=clock, access_file=str(file))
    yield running
    running.close()


@pytest.fixture(autouse=True)
def real_time(api: RunningApi) -> Iterator[None]:
    yield
    clock.ahead = 0.0


def invoke(api: RunningApi, key: str, **members: Any) -> None:
    client = api.client("sagemaker-runtime", key=key)
    client.invoke_endpoint(**{"EndpointName": "ep", "Body": b"body", **members})


def error_of(call: Any, *arguments: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as raised:
        call(*arguments, **members)
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    error = raised.value.response["Error"]
    return error["Code"], error["Message"]


def sent(
    api: RunningApi,
    headers: dict[str, str],
    path: str = "/endpoints/ep/invocations",
    body: str = "",
) -> tuple[int, str, str]:
    """Status, code and message of a request with these headers."""
    with closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=40)) as connection:
        connection.request("POST" if path != "/status" else "GET", path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        message = json.loads(content)["Message"] if answer.status >= 400 else ""
        return answer.status, answer.headers["x-amzn-errortype"] or "", message


def signed(
    api: RunningApi,
    path: str = "/endpoints/ep/invocations",
    method: str = "POST",
    key: str = "AKALL",
    **more: str,
) -> dict[str, str]:
    """Headers of a request without a body, signed; by default with the key that may do all."""
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    request = AWSRequest(method, api.url + path, headers)
    SigV4Auth(Credentials(key, "secret"), "sagemaker", "us-east-1").add_auth(request)
    return dict(request.headers.items())


@pytest.mark.parametrize("size", [0, 10, 3 << 20])
def test_a_signed_request_is_accepted(api: RunningApi, size: int) -> None:
    invoke(
        api,
        "AKALL",
        Body=bytes(size),
        TargetModel="a  b/c.tar.gz",
        CustomAttributes="a=b,  c",
        ContentType="text/plain; charset=utf-8",
    )
    assert len(api.backend.invocations[0].body) == size


def test_names_that_are_escaped_are_signed_as_sent(api: RunningApi) -> None:
    client = api.client("sagemaker-runtime", key="AKALL")
    with pytest.raises(client.exceptions.ValidationError, match="Value 'a b/~é' at"):
        client.invoke_endpoint(EndpointName="a b/~é", Body=b"")


def test_the_control_plane_is_signed_too(api: RunningApi) -> None:
    client = api.client("sagemaker", key="AKALL")
    client.create_model(**model())
    assert client.describe_model(ModelName="m")["ModelName"] == "m"


def test_whoever_signs_nothing_is_nobody(api: RunningApi) -> None:
    status, code, message = sent(api, {})
    assert (status, code) == (403, "MissingAuthenticationTokenException")
    assert message.startswith("Missing Authentication Token")
    assert sent(api, {}, "/status")[:2] == (403, "MissingAuthenticationTokenException")


def test_a_key_that_nobody_has_is_unknown(api: RunningApi) -> None:
    code, message = error_of(invoke, api, "AKOTHER")
    assert code == "UnrecognizedClientException"
    assert message == "The security token included in the request is invalid."


def test_a_wrong_secret_is_a_wrong_signature(api: RunningApi) -> None:
    client = SESSION.client(
        "sagemaker-runtime",
        endpoint_url=api.url,
        aws_access_key_id="AKALL",
        aws_secret_access_key="wrong",
    )
    with closing(client):
        code, message = error_of(client.invoke_endpoint, EndpointName="ep", Body=b"")
    assert code == "InvalidSignatureException"
    assert message.startswith("The request signature we calculated does not match")
    assert api.backend.invocations == []


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Amzn-SageMaker-Target-Model", "other.tar.gz"),
        ("X-Amz-Date", time.strftime("%Y%m%dT000000Z", time.gmtime())),
        ("Host", "elsewhere"),
    ],
)
def test_what_was_changed_on_the_way_is_noticed(api: RunningApi, header: str, value: str) -> None:
    headers = signed(api, X_Amzn_SageMaker_Target_Model="m.tar.gz")
    assert sent(api, headers)[0] == 200
    if header == "X-Amz-Date":
        clock.ahead = _until(value)
    assert sent(api, {**headers, header: value})[:2] == (403, "InvalidSignatureException")
    clock.ahead = 0.0
    assert sent(api, headers, body="more")[:2] == (403, "InvalidSignatureException")
    other = "/endpoints/other/invocations"
    assert sent(api, headers, other)[:2] == (403, "InvalidSignatureException")


def _until(stamp: str) -> float:
    return calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ")) - time.time()


def test_what_was_added_on_the_way_is_noticed(api: RunningApi) -> None:
    headers = {**signed(api), "X-Amzn-SageMaker-Target-Model": "m.tar.gz"}
    _, code, message = sent(api, headers)
    assert code == "InvalidSignatureException"
    assert message.startswith("'x-amzn-sagemaker-target-model' must be a 'SignedHeader'")
    assert sent(api, {**signed(api), "X-Amzn-Trace-Id": "Root=1"})[0] == 200


def test_queries_are_signed(api: RunningApi) -> None:
    headers = signed(api, "/status?since=3", "GET")
    with closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=40)) as connection:
        connection.request("GET", "/status?since=3", headers=headers)
        assert connection.getresponse().read() == b'{"endpoints":[],"events":[]}'
        connection.request("GET", "/status?since=4", headers=headers)
        assert connection.getresponse().status == 403
    assert api.backend.since == [3]


def test_signatures_grow_old(api: RunningApi) -> None:
    headers = signed(api)
    clock.ahead = SKEW - 60
    assert sent(api, headers)[0] == 200
    clock.ahead = SKEW + 60
    assert sent(api, headers)[2].startswith("Signature expired: ")
    clock.ahead = -SKEW - 60
    assert sent(api, headers)[2].startswith("Signature not yet current: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("us-east-1", "eu-west-1"), "Credential should be scoped to a valid region"),
        (("/sagemaker/", "/s3/"), "Credential should be scoped to correct service: 'sagemaker'"),
        (("AWS4-HMAC-SHA256", "AWS4-ECDSA"), "Authorization header is not that of AWS4-HMAC"),
        (("Signature=", "Signature=x"), "Authorization header is not that of AWS4-HMAC-SHA256"),
        (("SignedHeaders=host;", "SignedHeaders="), "'host' must be a 'SignedHeader'"),
        (("Credential=AKALL/2", "Credential=AKALL/1"), "Date in Credential scope does not match"),
    ],
)
def test_other_ways_to_sign_are_told_apart(
    api: RunningApi, changes: tuple[str, str], message: str
) -> None:
    headers = signed(api)
    changed = headers["Authorization"].replace(*changes)
    assert changed != headers["Authorization"]
    _, code, found = sent(api, {**headers, "Authorization": changed})
    assert code == "InvalidSignatureException"
    assert found.startswith(message)


def test_a_date_that_is_none_is_refused(api: RunningApi) -> None:
    _, _, message = sent(api, {**signed(api), "X-Amz-Date": "today"})
    assert message == "X-Amz-Date 'today' is not a date such as 19700101T000000Z."


def test_a_tenant_invokes_its_own_models_only(api: RunningApi) -> None:
    for target in ("company_a/m.tar.gz", "company_a/x/y", "/company_a/m", "shared-1.tar.gz"):
        invoke(api, "AKTENANT", TargetModel=target)
    invoke(api, "AKTENANT", TargetModel="[x]y")
    for target in ("company_b/m.tar.gz", "company_a", "shared-12.tar.gz", "Company_a/m", "x"):
        code, message = error_of(invoke, api, "AKTENANT", TargetModel=target)
        assert code == "AccessDeniedException"
        assert message == (
            "User: arn:aws:iam::000000000000:user/AKTENANT is not authorized to perform: "
            "sagemaker:InvokeEndpoint on resource: "
            "arn:aws:sagemaker:us-east-1:000000000000:endpoint/ep because no identity-based "
            "policy allows the sagemaker:InvokeEndpoint action"
        )
    assert error_of(invoke, api, "AKTENANT")[0] == "AccessDeniedException"


def test_a_key_that_is_for_models_only_may_not_touch_what_serves_them(api: RunningApi) -> None:
    for key in ("AKTENANT", "AKANY"):
        client = api.client("sagemaker", key=key)
        assert error_of(client.create_model, **model())[0] == "AccessDeniedException"
        assert error_of(client.delete_endpoint, EndpointName="ep")[0] == "AccessDeniedException"
        headers = signed(api, "/status", "GET", key)
        assert sent(api, headers, "/status")[:2] == (403, "AccessDeniedException")
    assert sent(api, signed(api, "/status", "GET", "AKSTATUS"), "/status")[0] == 200


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "MissingAuthenticationTokenException"),
        (("AKALL", "AKOTHER"), "UnrecognizedClientException"),
        (("us-east-1", "eu-west-1"), "InvalidSignatureException"),
    ],
)
def test_of_whoever_has_no_key_no_body_is_awaited(
    api: RunningApi, authorization: tuple[str, str] | None, code: str
) -> None:
    headers = {"Content-Length": str(20 << 20), "Expect": "100-continue", **signed(api)}
    if authorization is None:
        del headers["Authorization"]
    else:
        headers["Authorization"] = headers["Authorization"].replace(*authorization)
    path = "/endpoints/ep/invocations"
    with closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=40)) as connection:
        connection.putrequest("POST", path)
        for header in headers.items():
            connection.putheader(*header)
        connection.endheaders()
        answer = connection.getresponse()  # though nothing of the body has been sent
        assert (answer.status, answer.headers["x-amzn-errortype"]) == (403, code)


def test_a_pattern_for_any_model_still_asks_for_one(api: RunningApi) -> None:
    invoke(api, "AKANY", TargetModel="m")
    assert error_of(invoke, api, "AKANY")[0] == "AccessDeniedException"


def test_a_key_does_what_its_actions_say(api: RunningApi) -> None:
    invoke(api, "AKINVOKE", TargetModel="any")
    client = api.client("sagemaker", key="AKINVOKE")
    code, message = error_of(client.list_models)
    assert code == "AccessDeniedException"
    assert "is not authorized to perform: sagemaker:ListModels on resource: " in message
    reader = api.client("sagemaker", key="AKREAD")
    assert reader.list_models()["Models"] == []
    assert error_of(reader.create_model, **model())[0] == "AccessDeniedException"
    assert error_of(invoke, api, "AKREAD")[0] == "AccessDeniedException"
    assert error_of(invoke, api, "AKNOTHING")[0] == "AccessDeniedException"


def test_everybody_may_ping(api: RunningApi) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=40)) as connection:
        connection.request("GET", "/ping")
        assert connection.getresponse().status == 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Input data was truncated"),
        ("[]", "Expected `object`, got `array`"),
        ('{"keys": [{"access_key_id": "A"}]}', "missing required field `secret_access_key`"),
        ('{"keys": [], "more": 1}', "unknown field `more`"),
        (
            '{"keys": [{"access_key_id": "A", "secret_access_key": "s", "target_model": []}]}',
            "unknown field `target_model`",
        ),
        (
            json.dumps({"keys": [{"access_key_id": "A", "secret_access_key": "s"}] * 2}),
            "access_key_id 'A' is empty, odd or twice",
        ),
        (
            json.dumps({"keys": [{"access_key_id": "a/b", "secret_access_key": "s"}]}),
            "access_key_id 'a/b' is empty, odd or twice",
        ),
    ],
)
def test_an_access_file_that_is_wrong_says_so_at_the_start(
    tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "access.json"
    file.write_text(content)
    with pytest.raises(SettingsError) as raised:
        _start(tmp_path, file)
    assert str(file) in str(raised.value)
    assert message in str(raised.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org"])
def test_a_host_that_others_reach_needs_keys_or_the_word_that_all_may_come(
    host: str, tmp_path: Path
) -> None:
    settings = EndpointSettings(host=host)
    with pytest.raises(SettingsError, match=r"host=.*access_file.*open_to_all=true"):
        Access.load(settings, time.time)
    Access.load(replace(settings, open_to_all=True), time.time)
    file = tmp_path / "access.json"
    file.write_text('{"keys": []}')
    Access.load(replace(settings, access_file=str(file)), time.time)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_host_that_only_this_machine_reaches_needs_none(host: str) -> None:
    Access.load(EndpointSettings(host=host), time.time)


def test_a_host_within_a_container_that_only_this_machine_reaches_needs_none() -> None:
    Access.load(EndpointSettings(host="0.0.0.0", published_on_loopback=True), time.time)


def test_an_access_file_that_is_not_there_says_so_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"it cannot be read \(No such file or directory\)"):
        _start(tmp_path, tmp_path / "none.json")
    assert EndpointSettings().access_file == ""


def _start(directory: Path, file: Path) -> None:
    RunningApi(directory, access_file=str(file)).close()
