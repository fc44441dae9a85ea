"""The server itself: routes, bodies, clients that misbehave or leave, stopping."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.endpoint.api.requests import model
from tests.endpoint.api.running import RunningApi

INVOKE = "/endpoints/ep/invocations"
LIMIT = 1 << 20  # of the fixture's server


def ask(
    api: RunningApi, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, body."""
    with closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=40)) as connection:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read()


def operate(api: RunningApi, target: str, body: Any) -> tuple[str, str]:
    """Code and message of the failure of a control-plane request."""
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
    status, found, answer = ask(api, "POST", "/", body, headers)
    assert status == 400
    content = json.loads(answer)
    assert content["__type"] == found["x-amzn-errortype"]
    return content["__type"], content["Message"]


@contextmanager
def connected(api: RunningApi, data: bytes) -> Iterator[socket.socket]:
    """A connection on which bytes were sent."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=40) as connection:
        connection.sendall(data)
        yield connection


def all_of(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    received = b""
    while data := connection.recv(1 << 16):
        received += data
    return received


def test_ping(api: RunningApi) -> None:
    status, headers, body = ask(api, "GET", "/ping")
    assert (status, body) == (200, b"")
    assert len(headers["x-amzn-requestid"]) == 36


def test_status_is_what_the_backend_says(api: RunningApi) -> None:
    status, headers, body = ask(api, "GET", "/status")
    assert (status, json.loads(body)) == (200, {"endpoints": [], "events": []})
    assert headers["content-type"] == "application/json"
    ask(api, "GET", "/status?since=17")
    ask(api, "GET", "/status?since=1&disk=1")
    assert (api.backend.since, api.backend.with_disk) == ([0, 17, 1], [False, False, True])
    status, _, body = ask(api, "GET", "/status?disk=yes")
    assert (status, json.loads(body)["Message"]) == (400, "disk='yes' must be 1, or 0.")


@pytest.mark.parametrize("since", ["x", "-1", "", "1.5", "9" * 500])
def test_status_since_something_else_is_refused(api: RunningApi, since: str) -> None:
    status, headers, body = ask(api, "GET", f"/status?since={since}")
    assert (status, headers["x-amzn-errortype"]) == (400, "ValidationError")
    assert "must be the number of an event" in json.loads(body)["Message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", INVOKE),
        ("PUT", INVOKE),
        ("POST", "/endpoints/ep"),
        ("POST", "/endpoints/ep/invocations/more"),
        ("POST", "/endpoints/ep/nonsense"),
        ("POST", "/ping"),
        ("DELETE", "/status"),
        ("GET", "/%2e%2e/etc/passwd"),
    ],
)
def test_other_routes_are_named_as_such(api: RunningApi, method: str, path: str) -> None:
    status, headers, body = ask(api, method, path)
    assert (status, headers["x-amzn-errortype"]) == (404, "UnknownOperationException")
    assert path in json.loads(body)["Message"] or "nonsense" in path
    assert len(headers["x-amzn-requestid"]) == 36


@pytest.mark.parametrize("target", ["", "CreateModel", "SageMaker", "Other.CreateModel", "é"])
def test_a_target_that_names_nothing_is_refused(api: RunningApi, target: str) -> None:
    code, message = operate(api, target, b"{}")
    assert code == "UnknownOperationException"
    assert "names no operation" in message


def test_operations_that_are_not_there_are_told_from_those_that_are_not_done(
    api: RunningApi,
) -> None:
    _, message = operate(api, "SageMaker.CreateNonsense", b"{}")
    assert message == "There is no operation 'CreateNonsense'."
    _, message = operate(api, "SageMaker.CreateInferenceComponent", b"{}")
    assert message.startswith("CreateInferenceComponent is not supported here")


def test_without_a_target_it_is_no_operation(api: RunningApi) -> None:
    status, headers, _ = ask(api, "POST", "/", b"{}")
    assert (status, headers["x-amzn-errortype"]) == (400, "UnknownOperationException")


@pytest.mark.parametrize(
    "body",
    [b"no", b"{", b"\xff", b'{"ModelName": "\xff"}', b'"\\ud800"', b"[" * 100_000, b"{}{}"]
    + [b'{"MaxResults": 1e999}', b"NaN", b"[]", b"1", b"null", b'{"ModelName": {}}'],
)
def test_what_is_no_request_is_refused(api: RunningApi, body: bytes) -> None:
    code, message = operate(api, "SageMaker.DescribeModel", body)
    assert code == "SerializationException"
    assert message


def test_an_empty_body_is_a_request_without_members(api: RunningApi) -> None:
    code, message = operate(api, "SageMaker.DescribeModel", b"")
    assert code == "ValidationException"
    assert "Value null at 'modelName'" in message


def test_a_request_of_the_control_plane_has_a_limit(api: RunningApi) -> None:
    code, message = operate(api, "SageMaker.CreateModel", b" " * (LIMIT + 1))
    assert code == "ValidationException"
    assert f"larger than {LIMIT} bytes" in message


def test_a_body_may_be_as_large_as_the_limit(api: RunningApi, runtime: Any) -> None:
    body = bytes(range(256)) * (LIMIT // 256)
    runtime.invoke_endpoint(EndpointName="ep", Body=body)
    assert api.backend.invocations[0].body == body


@pytest.mark.parametrize("size", [LIMIT + 1, 80 << 20])
def test_a_larger_body_is_refused_and_the_client_learns_why(
    api: RunningApi, runtime: Any, size: int
) -> None:
    with pytest.raises(runtime.exceptions.ValidationError, match=f"larger than {LIMIT} bytes"):
        runtime.invoke_endpoint(EndpointName="ep", Body=bytes(size))
    runtime.invoke_endpoint(EndpointName="ep", Body=b"small")
    assert [seen.body for seen in api.backend.invocations] == [b"small"]


def test_a_body_whose_size_nobody_told_has_the_same_limit(api: RunningApi) -> None:
    status, _, body = ask(api, "POST", INVOKE, iter([b"ab", b"c"]))
    assert (status, body) == (200, b"ok")
    assert api.backend.invocations[0].body == b"abc"
    status, _, body = ask(api, "POST", INVOKE, (bytes(LIMIT // 4) for _ in range(40)))
    assert status == 400
    assert "larger than" in json.loads(body)["Message"]


def test_a_packed_body_stays_packed(api: RunningApi) -> None:
    packed = gzip.compress(b"a" * 1000)
    ask(api, "POST", INVOKE, packed, {"Content-Encoding": "gzip"})
    (seen,) = api.backend.invocations
    assert seen.body == packed
    assert seen.headers == (("X-Amzn-SageMaker-Forwarded-Api", "InvokeEndpoint"),)


def test_a_client_that_asks_before_it_sends_is_told_to(api: RunningApi) -> None:
    start = f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\n"
    head = start + "Content-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    with connected(api, head.encode()) as connection:
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    assert api.backend.invocations[0].body == b"body"


def test_a_client_that_asks_before_it_sends_too_much_is_spared_the_trouble(
    api: RunningApi,
) -> None:
    head = f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n"
    with connected(api, f"{head}Expect: 100-continue\r\n\r\n".encode()) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_one_connection_serves_many_requests(api: RunningApi) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=40)) as connection:
        for number in range(100):
            connection.request("POST", INVOKE, str(number))
            assert connection.getresponse().read() == b"ok"
    assert [int(seen.body) for seen in api.backend.invocations] == list(range(100))


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: localhost\r\n" + b"A: a\r\n" * 5000 + b"\r\n",
    ],
    ids=["tls", "nonsense", "version", "length", "long header", "long path", "many headers"],
)
def test_what_is_no_http_is_refused(api: RunningApi, data: bytes) -> None:
    with connected(api, data) as connection:
        assert all_of(connection).startswith(b"HTTP/1.0 400 Bad Request\r\n")
    assert ask(api, "GET", "/ping")[0] == 200


def test_headers_that_are_no_text_are_refused_where_they_count(api: RunningApi) -> None:
    head = (
        f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n"
    )
    odd = b"X-Amzn-SageMaker-Target-Model: \xff\xfe\r\nAuthorization: \xff\r\n\r\n"
    with connected(api, head.encode() + odd) as connection:
        answer = all_of(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Value '??' at 'targetModel' failed to satisfy constraint" in answer


def test_a_body_that_breaks_off_is_no_invoke(
    api: RunningApi, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nonly this"
    with connected(api, head.encode()):
        pass
    chunks = (
        f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"
    )
    with connected(api, chunks.encode()):
        pass
    assert ask(api, "GET", "/ping")[0] == 200
    assert api.backend.invocations == []
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_an_invoke_ends_when_its_client_leaves(api: RunningApi) -> None:
    api.backend.release = asyncio.Event()
    head = f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    with connected(api, head.encode()):
        assert api.backend.began.wait(60)
    assert api.backend.over.wait(60)
    assert api.backend.ended == ["cancelled"]


def test_a_client_that_leaves_harms_no_other_that_waits_for_the_model(tmp_path: Path) -> None:
    api = RunningApi(tmp_path)
    try:
        head = "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: SageMaker.ListModels\r\n"
        with connected(api, f"{head}Content-Length: 2\r\n\r\n{{}}".encode()):
            pass
        assert api.client("sagemaker").create_model(**model())
    finally:
        api.close()


def test_stopping_waits_for_requests_and_takes_no_more(tmp_path: Path) -> None:
    api = RunningApi(tmp_path)
    try:
        release = api.backend.release = asyncio.Event()
        answers: list[int] = []
        client = threading.Thread(target=lambda: answers.append(ask(api, "POST", INVOKE)[0]))
        client.start()
        assert api.backend.began.wait(60)
        stopping = asyncio.run_coroutine_threadsafe(api.server.stop(20), api.loop)
        with pytest.raises(ConnectionRefusedError):
            while True:
                with suppress(ConnectionResetError):  # it was waiting to be taken at that moment
                    ask(api, "GET", "/ping")
        assert not stopping.done()
        api.call(release.set)
        stopping.result(60)
        client.join(60)
        assert answers == [200]
    finally:
        api.close()


def test_stopping_does_not_wait_for_ever(tmp_path: Path) -> None:
    api = RunningApi(tmp_path)
    try:
        api.backend.release = asyncio.Event()
        head = f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        with connected(api, head.encode()) as connection:
            assert api.backend.began.wait(60)
            asyncio.run_coroutine_threadsafe(api.server.stop(0.1), api.loop).result(60)
            assert all_of(connection) == b""
        assert api.backend.ended == ["cancelled"]
    finally:
        api.close()


def test_a_port_that_is_taken_is_an_error(api: RunningApi, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="address already in use"):
        _start_on(tmp_path, api.port)


def _start_on(directory: Path, port: int) -> None:
    RunningApi(directory, port=port).close()
