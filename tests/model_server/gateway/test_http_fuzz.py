"""Any requests, cut anywhere, arrive as they are; anything else is refused and harms nobody."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_server.gateway.http_messages import HttpRequest
from model_server.gateway.http_reader import RequestReader

from ...contract.raw import RawResponse, chunk, post, request
from ..http_server import CLEAN, MAX_BODY_BYTES, UPGRADE, HttpServer, feed, split

KIB = 1024

FUZZ = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


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


PLACES = st.lists(st.integers(0, 1 << 20), max_size=6)


@settings(FUZZ, max_examples=70)
@given(sent=st.lists(requests(), min_size=1, max_size=6), places=PLACES)
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
    assert_arrived(sent, http.received)


def assert_arrived(sent: list[Sent], received: list[HttpRequest]) -> None:
    """Nothing was lost, changed, added or put in another order."""
    for each, arrived in zip(sent, received, strict=True):
        assert (each.method, each.path, each.query) == (
            arrived.method,
            arrived.path,
            arrived.query,
        )
        assert each.body == bytes(arrived.body)
        got = tuple(pair for pair in arrived.headers if pair[0].lower().startswith("x-"))
        assert got[: len(each.headers)] == each.headers


@settings(FUZZ, max_examples=200)
@given(sent=st.lists(requests(), min_size=1, max_size=6), places=PLACES)
def test_each_request_is_taken_with_its_last_byte_wherever_the_reads_end(
    sent: list[Sent], places: list[int]
) -> None:
    taken: list[HttpRequest] = []
    asked: list[int] = []  # how many were taken when a client was told to go on with its body
    reader = RequestReader(
        MAX_BODY_BYTES, take=taken.append, proceed=lambda: asked.append(len(taken))
    )
    ends = list(itertools.accumulate(len(each.wire) for each in sent))
    at = 0
    for part in split(b"".join(each.wire for each in sent), places):
        feed(reader, part)
        at += len(part)
        assert len(taken) == sum(end <= at for end in ends)
        assert reader.in_message == (at not in ends)
    assert_arrived(sent, taken)
    assert asked == sorted(set(asked))
    assert all(b"Expect: 100-continue" in sent[number].wire for number in asked)


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
