"""The protocol on a real server: what is sent arrives as exactly these requests or is refused."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_server.http_protocol import (
    IDLE_SECONDS,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    STALLED_SECONDS,
    HttpProtocol,
)

from ..contract.polling import eventually
from ..contract.raw import RawConnection, RawResponse, chunk, post, request
from .http_server import BIG, MAX_BODY_BYTES, HttpServer

KIB = 1024
CLEAN = request("GET", "/clean")
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk")

FUZZ = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


@pytest.fixture(scope="module")
def shared() -> Iterator[HttpServer]:
    server = HttpServer()
    yield server
    server.close()


@pytest.fixture
def http(shared: HttpServer) -> HttpServer:
    """The server, having forgotten what earlier tests sent; its connections are gone."""
    for connection in list(shared.connections.open):
        shared.call(connection._transport.abort)
    assert eventually(lambda: not shared.connections.open)
    shared.shut_gate()
    shared.received.clear()
    shared.answered.clear()
    shared.cancelled = 0
    return shared


# --- any valid requests -------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """A request as it should arrive, and its bytes on the wire."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    wire: bytes

    def __repr__(self) -> str:
        return f"<{self.method} {self.path} {len(self.body)} bytes {self.wire[:300]!r}>"


def any_case(name: str) -> st.SearchStrategy[str]:
    return st.lists(st.booleans(), min_size=len(name), max_size=len(name)).map(
        lambda ups: "".join(c.upper() if up else c.lower() for c, up in zip(name, ups, strict=True))
    )


SIZES = st.one_of(
    st.integers(0, 64),
    st.integers(0, 200 * KIB),
    st.sampled_from([65535, 65536, 65537, 131072, 200 * KIB]),
)
TOKENS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60)


@st.composite
def framing(draw: st.DrawFn, body: bytes) -> tuple[list[str], bytes]:
    """Headers that say how long the body is, and the body as it goes over the wire."""

    def name_of(name: str) -> str:
        return draw(any_case(name))

    kinds = ["length", "chunked", "none"] if not body else ["length", "chunked"]
    match draw(st.sampled_from(kinds)):
        case "none":
            return [], b""
        case "length":
            return [f"{name_of('content-length')}: {len(body)}"], body
    cuts = draw(st.lists(st.integers(0, len(body)), max_size=5))
    places = sorted({0, *cuts, len(body)})
    extension = draw(st.sampled_from([b"", b";a=b", b';name="quoted value"']))
    encoded = b"".join(
        b"%x%s\r\n%s\r\n" % (end - start, extension, body[start:end])
        for start, end in itertools.pairwise(places)
    )
    trailer = draw(st.sampled_from([b"", b"X-Trailer: yes\r\n"]))
    return (
        [f"{name_of('transfer-encoding')}: {name_of('chunked')}"],
        encoded + b"0\r\n" + trailer + b"\r\n",
    )


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]))
    path = "/" + draw(st.text("abcXYZ019/%.~-_", max_size=30))
    query = draw(st.text("abc=&%20+", max_size=20))
    body = random.Random(draw(st.integers(0, 9))).randbytes(draw(SIZES))
    names = draw(st.lists(TOKENS.map(lambda text: f"x-{text}"), max_size=4))
    extra = tuple((draw(any_case(name)), draw(VALUES)) for name in names)
    frame, encoded = draw(framing(body))
    expect = draw(st.sampled_from([[], [], ["Expect: 100-continue"]])) if body else []
    if draw(st.integers(0, 4)) == 0:
        expect = list(UPGRADE)
    lines = [f"{name}: {value}" for name, value in extra]
    target = f"{path}?{query}" if query else path
    head = request(method, target, *lines, *frame, *expect)
    return Sent(method, path, query, extra, body, head + encoded)


def split(data: bytes, places: list[int]) -> list[bytes]:
    cuts = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(cuts)]


@settings(FUZZ, max_examples=70)
@given(
    sent=st.lists(requests(), min_size=1, max_size=6),
    places=st.lists(st.integers(0, 1 << 20), max_size=6),
)
def test_any_requests_however_split_arrive_whole_and_in_order(
    http: HttpServer, sent: list[Sent], places: list[int]
) -> None:
    http.received.clear()
    with http.connect() as connection:
        for part in split(b"".join(each.wire for each in sent), places):
            connection.send(part)
            http.settle()
        answers: list[RawResponse] = []
        while len(answers) < len(sent):
            answer = connection.receive()
            if answer.status != 100:
                answers.append(answer)
    assert [answer.status for answer in answers] == [200] * len(sent)
    assert [answer.body for answer in answers] == [each.body for each in sent]
    for each, arrived in zip(sent, http.received, strict=True):
        assert (each.method, each.path, each.query) == (
            arrived.method,
            arrived.path,
            arrived.query,
        )
        assert each.body == bytes(arrived.body)
        got = tuple(pair for pair in arrived.headers if pair[0].lower().startswith("x-"))
        assert got[: len(each.headers)] == each.headers


@pytest.mark.parametrize("framed", ["length", "chunked"])
def test_a_request_cut_at_every_byte_arrives_whole(http: HttpServer, framed: str) -> None:
    first = post("/first", b"hello")
    if framed == "chunked":
        first = request("POST", "/first", "Transfer-Encoding: chunked") + chunk(b"hello")
        first += chunk(b"")
    both = first + CLEAN
    for at in range(1, len(both)):
        http.received.clear()
        with http.connect() as connection:
            connection.send(both[:at])
            http.settle()
            connection.send(both[at:])
            assert connection.receive().body == b"hello", at
            assert connection.receive().status == 200, at
        assert [each.path for each in http.received] == ["/first", "/clean"]


# --- anything at all ----------------------------------------------------------------------------

SEEDS = (
    post("/a", b"hello") + CLEAN,
    request("POST", "/a", "Transfer-Encoding: chunked") + chunk(b"hello") + chunk(b"") + CLEAN,
    request("GET", "/a", "Connection: close"),
    request("POST", "/a", "Content-Length: 5", "Expect: 100-continue", body=b"hello"),
    b"POST /a HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    request("GET", "/a", *(f"X-{number}: {number}" for number in range(20))),
    request("POST", "/a", *UPGRADE, "Content-Length: 5", body=b"hello") + CLEAN,
    b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
)
JUNK = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"0\r\n\r\n", b"HTTP/1.1", b"HTTP/2.0"]
        + [b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffff\r\n"]
        + [b"Transfer-Encoding: identity\r\n", b"Content-Length: -1\r\n", b"\xff" * 9, b"GET / "]
    ),
)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """Valid requests with some bytes replaced, removed, repeated or put in."""
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        middle = draw(st.one_of(JUNK, st.just(data[start:end] * 2)))
        data = data[:start] + middle + data[end:]
    return data


@settings(FUZZ, max_examples=250)
@given(
    data=st.one_of(broken(), broken(), st.binary(max_size=200)),
    places=st.lists(st.integers(0, 1 << 10), max_size=3),
)
def test_whatever_is_sent_gets_responses_or_a_close_and_harms_nobody(
    http: HttpServer, data: bytes, places: list[int]
) -> None:
    answers = http.converse(*split(data, places))
    assert all(status in (100, 200, 400, 408, 413, 431) for status, _ in answers)
    refused = [status for status, _ in answers if status >= 400]
    assert len(refused) <= 1 and (not refused or answers[-1][0] == refused[0])
    with http.connect() as connection:
        connection.send(CLEAN)
        assert connection.receive().status == 200


# --- one request is never two -------------------------------------------------------------------

CHUNKED_HIDDEN = b"0\r\n\r\n" + HIDDEN
AMBIGUOUS = {
    "length and chunked": ["Content-Length: 5", "Transfer-Encoding: chunked"],
    "chunked and length": ["Transfer-Encoding: chunked", "Content-Length: 5"],
    "two lengths": ["Content-Length: 5", f"Content-Length: {len(CHUNKED_HIDDEN)}"],
    "two lengths in one": ["Content-Length: 5, 5"],
    "length with a plus": ["Content-Length: +5"],
    "length with a minus": ["Content-Length: -5"],
    "length with a space inside": ["Content-Length: 5 5"],
    "length in hexadecimal": ["Content-Length: 0x5"],
    "length with a letter": ["Content-Length: 5a"],
    "empty length": ["Content-Length: "],
    "length that overflows": ["Content-Length: 18446744073709551621"],
    "a word around chunked": ["Transfer-Encoding: xchunked"],
    "identity": ["Transfer-Encoding: identity"],
    "chunked, then identity": ["Transfer-Encoding: chunked, identity"],
    "chunked twice": ["Transfer-Encoding: chunked, chunked"],
    "chunked in two headers": ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
    "chunked in quotes": ['Transfer-Encoding: "chunked"'],
    "a vertical tab before chunked": ["Transfer-Encoding: \x0bchunked"],
    "space before the colon": ["Transfer-Encoding : chunked"],
    "tab before the colon": ["Transfer-Encoding\t: chunked"],
    "folded header": ["X: y", " Transfer-Encoding: chunked"],
    "folded value": ["Transfer-Encoding:", " chunked"],
    "zero byte in a value": ["X: a\0b"],
    "zero byte in a name": ["X\0Y: a"],
    "carriage return in a value": ["X: a\rTransfer-Encoding: chunked"],
    "space in a name": ["X Y: a"],
    "no name": [": a"],
}


@pytest.mark.parametrize("headers", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
@pytest.mark.parametrize("pieces", ["at once", "in pieces"])
def test_a_head_that_can_be_read_in_two_ways_is_400_and_nothing_else(
    http: HttpServer, headers: list[str], pieces: str
) -> None:
    message = request("POST", "/outer", *headers, body=CHUNKED_HIDDEN)
    sent = [message] if pieces == "at once" else split(message, [20, 50, 80, 110])
    answers = http.converse(*sent)
    assert [status for status, _ in answers] == [400]
    assert http.received == []


CHUNKS = {
    "size that overflows": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "size in 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "size with a plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "size with a minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "size behind a space": b" 5\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "bare line feed": b"5\nhello\r\n0\r\n\r\n",
    "data longer than the size": b"4\r\nhello\r\n0\r\n\r\n",
    "no line end behind the data": b"5\r\nhello0\r\n\r\n",
    "bare line feed behind the data": b"5\r\nhello\n0\r\n\r\n",
    "zero byte in the extension": b"5;a\0b\r\nhello\r\n0\r\n\r\n",
    "line feed in the extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
def test_chunks_that_can_be_read_in_two_ways_are_400_and_nothing_else(
    http: HttpServer, chunks: bytes
) -> None:
    head = request("POST", "/outer", "Transfer-Encoding: chunked")
    answers = http.converse(head + chunks + HIDDEN)
    assert [status for status, _ in answers] == [400]
    assert http.received == []


def test_chunked_in_http_1_0_is_never_two_requests(http: HttpServer) -> None:
    head = b"POST /outer HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"
    http.converse(head + CHUNKED_HIDDEN)
    assert "/hidden" not in [each.path for each in http.received]


@pytest.mark.parametrize("length", ["5", "  5", "5  ", "05"])
def test_lengths_that_are_odd_but_right_are_read_as_they_are(http: HttpServer, length: str) -> None:
    answers = http.converse(request("POST", "/", f"Content-Length: {length}", body=b"hello"))
    assert answers in ([(200, b"hello")], [(400, answers[0][1])])


def test_the_same_length_twice_is_never_two_requests(http: HttpServer) -> None:
    headers = [f"Content-Length: {len(HIDDEN)}"] * 2
    http.converse(request("POST", "/outer", *headers, body=HIDDEN))
    assert [each.path for each in http.received] in ([], ["/outer"])


def test_heads_with_bare_line_feeds_are_never_two_requests(http: HttpServer) -> None:
    http.converse(b"GET /outer HTTP/1.1\nHost: x\nContent-Length: 38\n\n" + HIDDEN)
    assert "/hidden" not in [each.path for each in http.received]


def test_a_trailer_cannot_change_the_framing(http: HttpServer) -> None:
    head = request("POST", "/outer", "Transfer-Encoding: chunked")
    trailer = b"0\r\nContent-Length: 500\r\nTransfer-Encoding: chunked\r\n\r\n"
    http.converse(head + chunk(b"hello") + trailer + CLEAN)
    paths = [each.path for each in http.received]
    assert paths in ([], ["/outer", "/clean"])


def test_what_follows_an_http_1_0_request_that_closes_is_not_served(http: HttpServer) -> None:
    answers = http.converse(b"GET /outer HTTP/1.0\r\n\r\n" + HIDDEN)
    assert answers[0][0] == 200
    assert [each.path for each in http.received] == ["/outer"]


def test_what_follows_connection_close_is_not_served(http: HttpServer) -> None:
    answers = http.converse(request("GET", "/outer", "Connection: close") + HIDDEN)
    assert answers[0][0] == 200
    assert [each.path for each in http.received] == ["/outer"]


# --- upgrades, which nobody gets ----------------------------------------------------------------

UPGRADED = {
    "length": request("POST", "/up", *UPGRADE, "Content-Length: 5", body=b"hello"),
    "empty": request("POST", "/up", *UPGRADE, "Content-Length: 0"),
    "chunked": request("POST", "/up", *UPGRADE, "Transfer-Encoding: chunked")
    + chunk(b"hello")
    + chunk(b""),
}


def test_an_upgrade_request_without_a_body_is_a_plain_one(http: HttpServer) -> None:
    with http.connect() as connection:
        for _ in range(2):
            connection.send(request("GET", "/up", *UPGRADE))
            assert connection.receive().status == 200
            connection.send(CLEAN)
            assert connection.receive().status == 200


@pytest.mark.parametrize("wire", UPGRADED.values(), ids=UPGRADED.keys())
@pytest.mark.parametrize("places", [[], [-1], [60, -10]])
def test_an_upgrade_request_with_a_body_is_a_plain_one_or_refused(
    http: HttpServer, wire: bytes, places: list[int]
) -> None:
    body = b"" if b"Content-Length: 0" in wire else b"hello"
    statuses = [status for status, _ in http.converse(*split(wire, places), CLEAN)]
    assert [(each.path, bytes(each.body)) for each in http.received] in (
        [],
        [("/up", body), ("/clean", b"")],
    )
    assert statuses in ([400], [501], [200, 200])


def test_a_request_behind_an_upgrade_request_is_served(http: HttpServer) -> None:
    http.converse(request("GET", "/up", *UPGRADE) + CLEAN)
    assert [each.path for each in http.received] == ["/up", "/clean"]


def test_the_chunks_of_an_upgrade_request_are_never_requests(http: HttpServer) -> None:
    head = request("POST", "/up", *UPGRADE, "Transfer-Encoding: chunked")
    http.converse(head, HIDDEN)
    assert "/hidden" not in [each.path for each in http.received]


def test_connect_with_a_body_is_never_two_requests_and_is_answered(http: HttpServer) -> None:
    head = b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    assert http.converse(head + b"hello")


# --- limits -------------------------------------------------------------------------------------


def test_a_head_just_within_the_limit_passes(http: HttpServer) -> None:
    value = "x" * (MAX_HEAD_BYTES - 200)
    assert http.converse(request("GET", "/", f"X-Long: {value}"))[0][0] == 200


@pytest.mark.parametrize(
    "wire",
    [
        request("GET", "/", f"X-Long: {'x' * MAX_HEAD_BYTES}"),
        request("GET", "/" + "x" * MAX_HEAD_BYTES, "X: y"),
        b"GET / HTTP/1.1\r\nX-Endless: " + b"x" * (3 * MAX_HEAD_BYTES),
        b"GET /" + b"x" * (3 * MAX_HEAD_BYTES),
        request("GET", "/", *["X: y"] * (MAX_HEADERS + 1)),
    ],
    ids=["long value", "long target", "endless value", "endless target", "many headers"],
)
def test_a_head_over_the_limits_is_431(http: HttpServer, wire: bytes) -> None:
    assert [status for status, _ in http.converse(wire)] == [431]
    assert http.received == []


def test_as_many_headers_as_allowed_pass(http: HttpServer) -> None:
    lines = ["X: y"] * (MAX_HEADERS - 1)  # and Host
    assert http.converse(request("GET", "/", *lines))[0][0] == 200


def test_trailers_are_not_headers(http: HttpServer) -> None:
    head = request("POST", "/", "Transfer-Encoding: chunked")
    http.converse(head + b"0\r\nX-Amzn-SageMaker-Inference-Id: forged\r\n\r\n")
    assert [each.header("x-amzn-sagemaker-inference-id") for each in http.received] == [""]


@pytest.mark.parametrize("size", [MAX_BODY_BYTES, MAX_BODY_BYTES + 1])
@pytest.mark.parametrize("framed", ["length", "chunked", "one chunk"])
def test_a_body_may_have_as_many_bytes_as_the_limit_and_not_one_more(
    http: HttpServer, size: int, framed: str
) -> None:
    body = b"x" * size
    if framed == "length":
        wire = post("/", body)
    else:
        step = 10_000 if framed == "chunked" else size
        pieces = [body[at : at + step] for at in range(0, size, step)]
        wire = request("POST", "/", "Transfer-Encoding: chunked")
        wire += b"".join(map(chunk, pieces)) + chunk(b"")
    statuses = [status for status, _ in http.converse(wire)]
    assert statuses == ([200] if size <= MAX_BODY_BYTES else [413])


def test_100_continue_comes_only_once_and_before_the_body(http: HttpServer) -> None:
    for framed, body in (("Content-Length: 5", b"hello"), ("Transfer-Encoding: chunked", b"")):
        with http.connect() as connection:
            connection.send(request("POST", "/", framed, "Expect: 100-continue"))
            assert connection.receive().status == 100
            connection.send(body or chunk(b"hello") + chunk(b""))
            assert connection.receive().body == b"hello"


def test_many_pipelined_requests_wait_their_turn_and_are_all_answered(http: HttpServer) -> None:
    with http.connect() as connection:
        connection.send(request("GET", "/wait"))
        assert eventually(lambda: len(http.received) == 1)
        bodies = [b"%d" % number for number in range(200)]
        connection.send(b"".join(post("/", body) for body in bodies))
        http.settle()
        (protocol,) = http.connections.open
        assert not protocol._transport.is_closing()
        assert len(http.received) == 1
        http.open_gate()
        assert connection.receive().status == 200
        assert [connection.receive().body for _ in bodies] == bodies


def test_a_client_that_pipelines_without_end_is_not_read_any_further(http: HttpServer) -> None:
    with http.connect() as connection:
        connection.send(request("GET", "/wait"))
        assert eventually(lambda: len(http.received) == 1)
        (protocol,) = http.connections.open
        for _ in range(20):
            connection.send(post("/", b"x" * 1000) * 10)
            http.settle()
        assert len(protocol._waiting) < 100
        http.open_gate()
        assert [connection.receive().status for _ in range(201)] == [200] * 201


def test_an_error_behind_pipelined_requests_is_answered_behind_them(http: HttpServer) -> None:
    with http.connect() as connection:
        connection.send(request("GET", "/wait") + CLEAN + b"this is not HTTP\r\n\r\n")
        assert eventually(lambda: len(http.received) == 1)
        http.open_gate()
        assert [connection.receive().status for _ in range(3)] == [200, 200, 400]
        assert connection.is_closed_by_server()


# --- handlers -----------------------------------------------------------------------------------


def test_a_handler_that_fails_costs_its_connection_and_no_other(http: HttpServer) -> None:
    with http.connect() as connection, http.connect() as other:
        connection.send(request("GET", "/raise"))
        assert connection.is_closed_by_server()
        other.send(CLEAN)
        assert other.receive().status == 200


def test_a_stream_is_sent_whole(http: HttpServer) -> None:
    with http.connect() as connection:
        for _ in range(2):
            connection.send(request("GET", "/stream"))
            assert connection.receive().body == BIG


def test_a_stream_that_breaks_off_is_a_connection_cut_short(http: HttpServer) -> None:
    with http.connect() as connection:
        connection.send(request("GET", "/cut-stream"))
        assert len(connection.receive().body) < len(BIG)


def test_head_has_the_length_and_no_body(http: HttpServer) -> None:
    with http.connect() as connection:
        connection.send(request("HEAD", "/", "Content-Length: 5", body=b"hello") + CLEAN)
        answer = connection.receive(has_body=False)
        assert (answer.status, answer.headers["content-length"]) == (200, "5")
        assert connection.receive().status == 200


def test_a_client_that_leaves_cancels_its_handler(http: HttpServer) -> None:
    with http.connect() as connection:
        connection.send(request("GET", "/wait"))
        assert eventually(lambda: len(http.received) == 1)
    assert eventually(lambda: http.cancelled == 1)
    assert eventually(lambda: not http.connections.open)


def test_a_slow_client_of_answers_given_at_once_gets_them_all(http: HttpServer) -> None:
    with http.connect() as connection:
        count = 1500
        sender = threading.Thread(
            target=connection.send, args=[request("GET", "/at-once") * count], daemon=True
        )
        sender.start()
        assert eventually(lambda: any(not c._can_write.is_set() for c in http.connections.open))
        connection._socket.settimeout(2)
        assert [connection.receive().status for _ in range(count)] == [200] * count
        sender.join(5)


def test_a_stream_to_a_server_that_stops_ends_its_connection() -> None:
    http = HttpServer()
    try:
        with http.connect() as connection:
            connection.send(request("GET", "/stream"))
            assert eventually(lambda: len(http.received) == 1)
            http.call(http.connections.stop)
            answer = connection.receive()
            assert answer.body == BIG
            if answer.headers.get("connection") != "close":
                connection.send(CLEAN)
                assert connection.receive().headers["connection"] == "close"
            assert connection.is_closed_by_server()
    finally:
        http.close()


# --- time ---------------------------------------------------------------------------------------

BEGUN = {
    "request line": b"GET / HT",
    "head": b"POST / HTTP/1.1\r\nContent-Le",
    "no body": b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
    "half a body": b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe",
    "half a chunk": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
    "between chunks": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "behind an answered one": CLEAN + b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe",
}


@pytest.mark.parametrize("begun", BEGUN.values(), ids=BEGUN.keys())
def test_a_client_that_stops_in_the_middle_gets_408(http: HttpServer, begun: bytes) -> None:
    with http.connect() as connection:
        connection.send(begun)
        if begun.startswith(CLEAN):
            assert connection.receive().status == 200
        assert in_the_middle(http)
        http.advance(STALLED_SECONDS - 5)
        assert len(http.connections.open) == 1
        http.advance(STALLED_SECONDS + 1)
        assert connection.receive().status == 408
        assert connection.is_closed_by_server()
    assert "/clean" not in [each.path for each in http.received][1:]


def in_the_middle(http: HttpServer) -> bool:
    """Whether the one connection has begun to receive a request and answers none."""

    def begun() -> bool:
        return any(each._in_message and not each.busy for each in http.connections.open)

    return eventually(begun)


def test_every_byte_gives_a_stalled_client_new_time(http: HttpServer) -> None:
    with http.connect() as connection:
        for byte in b"GET / HTTP/1.1\r\n":
            connection.send(bytes([byte]))
            assert in_the_middle(http)
            http.advance(STALLED_SECONDS - 1)
        connection.send(b"\r\n")
        assert connection.receive().status == 200


def test_an_idle_connection_is_closed_without_a_word(http: HttpServer) -> None:
    with http.connect() as new, http.connect() as used:
        used.send(CLEAN)
        assert used.receive().status == 200
        assert eventually(lambda: len(http.connections.open) == 2)
        http.advance(IDLE_SECONDS - 5)
        assert len(http.connections.open) == 2
        http.advance(IDLE_SECONDS + 1)
        assert new.is_closed_by_server()
        assert used.is_closed_by_server()


def test_a_slow_handler_is_not_a_stalled_client(http: HttpServer) -> None:
    with http.connect() as connection:
        connection.send(request("GET", "/wait"))
        assert eventually(lambda: len(http.received) == 1)
        http.advance(10 * IDLE_SECONDS)
        http.open_gate()
        assert connection.receive().status == 200


@pytest.mark.parametrize("path", ["/big", "/stream"])
def test_a_client_that_never_reads_takes_memory_for_one_answer_and_harms_nobody(
    http: HttpServer, path: str
) -> None:
    with http.connect() as deaf, http.connect() as other:
        deaf.send(request("GET", path) * 10)
        assert eventually(lambda: len(http.received) == 1)
        http.settle()
        other.send(CLEAN)
        assert other.receive().status == 200
        assert [each.path for each in http.received].count(path) == 1
    assert eventually(lambda: not http.connections.open)


def test_a_client_that_never_reads_is_dropped_in_the_end(http: HttpServer) -> None:
    with http.connect() as deaf:
        deaf.send(request("GET", "/big"))
        assert eventually(lambda: len(http.received) == 1)
        http.settle()
        for looks in range(1, 4):
            http.advance(looks * 10 * IDLE_SECONDS)
        assert eventually(lambda: not http.connections.open, within_seconds=1)


def test_on_stop_idle_connections_close_and_busy_ones_after_their_answer() -> None:
    http = HttpServer()
    try:
        with http.connect() as idle, http.connect() as busy:
            idle.send(CLEAN)
            assert idle.receive().status == 200
            busy.send(request("GET", "/wait"))
            assert eventually(lambda: len(http.received) == 2)
            http.call(http.connections.stop)
            assert idle.is_closed_by_server()
            http.open_gate()
            answer = busy.receive()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert busy.is_closed_by_server()
    finally:
        http.close()


def test_a_connection_that_has_not_asked_yet_is_served_by_a_server_that_stops() -> None:
    http = HttpServer()
    try:
        with http.connect() as connection:
            assert eventually(lambda: len(http.connections.open) == 1)
            http.call(http.connections.stop)
            connection.send(CLEAN)
            assert connection.receive().headers["connection"] == "close"
    finally:
        http.close()


def test_a_refused_client_that_keeps_sending_still_reads_why(http: HttpServer) -> None:
    connection: RawConnection
    with http.connect() as connection:
        connection.send(request("POST", "/", f"Content-Length: {100 << 20}"))
        for _ in range(50):
            connection.send(b"x" * 10_000)
        assert connection.receive().status == 413
    assert isinstance(next(iter(http.connections.open), None), HttpProtocol | None)
