"""Stub containers that become healthy, do not, or cease to be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from endpoint.instances.container_client import ContainerClient
from endpoint.instances.health import NotHealthy, Prober, wait_until_healthy
from endpoint.settings import EndpointSettings
from tests.endpoint.containers.running import Stub, started
from tests.endpoint.instances.clients import client_of, with_client

SECONDS = 40.0  # for what comes
SOON = 1.0  # for what never comes; a slow machine needs that to see it at all
HTML = "<html>It works!</html>"
SETTINGS = EndpointSettings(probe_interval_seconds=0.01, unhealthy_probes=3)


async def wait(
    client: ContainerClient, *, timeout_seconds: float = SECONDS, multi_model: bool = True
) -> dict[str, str]:
    never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    return await wait_until_healthy(
        client, multi_model=multi_model, timeout_seconds=timeout_seconds, ended=never
    )


async def wait_in_vain(client: ContainerClient) -> str:
    """Why it is not healthy."""
    with pytest.raises(NotHealthy) as caught:
        await wait(client, timeout_seconds=SOON)
    return str(caught.value)


def kinds(stub: Stub) -> list[str]:
    return [seen.on for seen in stub.seen()]


def test_a_healthy_container_is_looked_at_twice() -> None:
    with started() as stub:
        assert with_client(stub.url, wait) == {}
        assert kinds(stub) == ["ping", "list", "ping", "list"]


def test_what_a_container_has_loaded_already_is_told(tmp_path: Path) -> None:
    with started() as stub:

        async def ask(client: ContainerClient) -> dict[str, str]:
            await client.load("m", str(tmp_path), "m", SECONDS)
            return await wait(client)

        assert with_client(stub.url, ask) == {"m": str(tmp_path)}


def test_a_container_of_one_model_is_only_pinged() -> None:
    with started(multi_model=False) as stub:
        with_client(stub.url, lambda client: wait(client, multi_model=False))
        assert kinds(stub) == ["ping", "ping"]


def test_a_container_that_takes_its_time_is_waited_for() -> None:
    rules = [
        {"on": "ping", "do": "answer", "status": 503, "times": 3},
        {"on": "list", "do": "break", "times": 1},
    ]
    with started(rules=rules) as stub:
        with_client(stub.url, wait)
        assert kinds(stub)[:3] == ["ping"] * 3


def test_one_good_look_among_bad_ones_is_not_enough() -> None:
    with started() as stub:
        stub.rule("list", "answer", times=1, text="{}")
        stub.rule("list", "answer", times=1, status=503)
        with_client(stub.url, wait)
        assert kinds(stub) == ["ping", "list"] * 4


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"on": "ping", "do": "answer", "status": 503, "text": "wait"}, "200, not 503: wait"),
        ({"on": "ping", "do": "answer", "status": 204}, "200, not 204"),
        ({"on": "list", "do": "answer", "status": 404, "text": "no page"}, "not 404: no page"),
        ({"on": "*", "do": "answer", "text": HTML}, "it must be JSON, but starts with '<html>"),
        ({"on": "*", "do": "answer", "text": '{"ok": true}'}, 'it has no list "models"'),
        ({"on": "ping", "do": "garbage"}, "not HTTP"),
        ({"on": "ping", "do": "break"}, "broke off before it answered"),
    ],
)
def test_a_container_that_never_is_healthy_is_told_by_what_it_did(
    rule: Mapping[str, Any], words: str
) -> None:
    with started(rules=[rule]) as stub:
        message = with_client(stub.url, wait_in_vain)
    assert message.startswith("The primary container did not pass the ping health check: GET /")
    assert words in message
    assert message.endswith(f"within {SOON:g} s")


def test_a_container_that_does_not_listen_is_not_healthy() -> None:
    with started(listens=False) as stub:
        assert f"no connection to {stub.url}" in with_client(stub.url, wait_in_vain)


def test_a_container_that_hangs_is_not_healthy() -> None:
    with started(rules=[{"on": "ping", "do": "hang"}]) as stub:
        assert f": no answer within {SOON:g} s" in with_client(stub.url, wait_in_vain)


def test_a_ping_that_takes_too_long_is_bad() -> None:
    async def ask(url: str) -> str:
        async with client_of(url, ping_timeout_seconds=0.05) as client:
            return await wait_in_vain(client)

    with started(rules=[{"on": "ping", "do": "hang"}]) as stub:
        assert "GET /ping: no whole answer in 0.05 s" in asyncio.run(ask(stub.url))


def test_nobody_waits_for_a_container_that_has_ended() -> None:
    with started(rules=[{"on": "ping", "do": "answer", "status": 503}]) as stub:

        async def ask(client: ContainerClient) -> None:
            process = stub.process
            assert process is not None
            ended = asyncio.ensure_future(asyncio.to_thread(lambda: f"exit code {process.wait()}"))
            waiting = asyncio.create_task(
                wait_until_healthy(
                    client, multi_model=True, timeout_seconds=SECONDS, ended=ended, who="It"
                )
            )
            await asyncio.to_thread(stub.wait_for, "ping", 2)
            await asyncio.to_thread(stub.exit, 7)
            with pytest.raises(NotHealthy, match=r"It did not pass .*: it has ended: exit code 7"):
                await waiting

        with_client(stub.url, ask)


def test_somebody_else_on_the_port_of_a_container_that_has_ended_is_not_it() -> None:
    async def ask(client: ContainerClient) -> None:
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        ended.set_result("exit code 1")
        with pytest.raises(NotHealthy, match="exit code 1"):
            await wait_until_healthy(client, multi_model=True, timeout_seconds=SECONDS, ended=ended)

    with started() as stub:
        with_client(stub.url, ask)


def test_a_prober_tells_what_is_listed_and_when_it_asked(tmp_path: Path) -> None:
    with started(phantoms=["m"]) as stub:

        async def ask(client: ContainerClient) -> None:
            loop = asyncio.get_running_loop()
            heard: asyncio.Queue[tuple[dict[str, str], float]] = asyncio.Queue()
            prober = Prober(
                client,
                SETTINGS,
                multi_model=True,
                on_listed=lambda models, asked_at: heard.put_nowait((models, asked_at)),
                on_failed=lambda: None,
            )
            begin = loop.time()
            running = asyncio.create_task(prober.run())
            models, asked_at = await heard.get()
            assert models == {"m": "/gone"}
            assert begin < asked_at < loop.time()
            await asyncio.to_thread(stub.set, phantoms=[])
            while (await heard.get())[0]:
                pass
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

        with_client(stub.url, ask)


def test_a_prober_ends_after_some_bad_looks_in_a_row() -> None:
    with started() as stub:
        stub.rule("ping", "answer", status=500, times=2)
        stub.rule("ping", "answer", times=2)
        stub.rule("list", "answer", text="{}", times=1)
        stub.rule("list", "answer", text=HTML, times=1)
        stub.rule("ping", "break")

        async def ask(client: ContainerClient) -> str:
            listed: list[float] = []
            failed: list[int] = []
            prober = Prober(
                client,
                SETTINGS,
                multi_model=True,
                on_listed=lambda _, at: listed.append(at),
                on_failed=lambda: failed.append(len(listed)),
            )
            reason = await asyncio.wait_for(prober.run(), SECONDS)
            assert len(listed) == 1
            assert failed == [0, 0, 1, 1, 1]
            return reason

        reason = with_client(stub.url, ask)
    assert reason.startswith("3 failed health checks in a row; the last: GET /")


def test_a_prober_finds_out_that_a_container_is_gone() -> None:
    with started() as stub:
        stub.kill()

        async def ask(client: ContainerClient) -> str:
            prober = Prober(
                client,
                SETTINGS,
                multi_model=True,
                on_listed=lambda *_: None,
                on_failed=lambda: None,
            )
            return await asyncio.wait_for(prober.run(), SECONDS)

        assert "no connection to" in with_client(stub.url, ask)
