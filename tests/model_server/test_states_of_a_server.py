"""Anything that a platform may do to a real server, in any order: the contract holds."""

from __future__ import annotations

from pathlib import Path

import httpx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ..contract.endpoint import Endpoint
from ..contract.server import OwnServer
from . import inside
from .conftest import Yard
from .tight import fitting

NAMES = st.sampled_from(["a", "b/invoke", "模型", "..%2F"])
BEHAVIOURS = st.sampled_from(["echo", "reports_process"])

# So much that of the four names two fit into memory.
FILLS_MB = 40


class ServerLife(RuleBasedStateMachine):
    """``loaded`` is what the server should have, by name."""

    own: OwnServer
    endpoint: Endpoint

    def __init__(self) -> None:
        super().__init__()
        for name in self.endpoint.names():
            assert self.endpoint.unload(name).status_code == 200
        self.loaded: dict[str, str] = {}

    @rule(name=NAMES, behaviour=BEHAVIOURS)
    def load(self, name: str, behaviour: str) -> None:
        status = self.endpoint.load(behaviour, name).status_code
        assert status == (409 if name in self.loaded else 200)
        self.loaded.setdefault(name, behaviour)

    @rule(name=NAMES)
    def load_what_is_broken(self, name: str) -> None:
        status = self.endpoint.load("raises_on_load", name).status_code
        assert status == (409 if name in self.loaded else 500)

    @rule(name=NAMES)
    def unload(self, name: str) -> None:
        status = self.endpoint.unload(name).status_code
        assert status == (200 if name in self.loaded else 404)
        self.loaded.pop(name, None)

    @rule(name=NAMES)
    def invoke(self, name: str) -> None:
        status = self.endpoint.invoke(name, b"x").status_code
        assert status == (200 if name in self.loaded else 404)

    @precondition(lambda self: self.loaded)
    @rule(data=st.data())
    def reload(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.loaded)))
        assert self.endpoint.unload(name).status_code == 200
        assert self.endpoint.load(self.loaded[name], name).status_code == 200

    @precondition(lambda self: self.loaded)
    @rule(data=st.data())
    def kill_a_worker(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.loaded)))
        for pid in inside.pids(self.endpoint, name):
            inside.kill(pid)

    @precondition(lambda self: len(self.loaded) < 2)
    @rule()
    def kill_the_zygote(self) -> None:
        workers = {pid for name in self.loaded for pid in inside.pids(self.endpoint, name)}
        for pid in inside.zygotes(self.own) - workers:
            inside.kill(pid)

    @invariant()
    def the_list_is_what_was_loaded(self) -> None:
        assert self.endpoint.names() == set(self.loaded)

    @invariant()
    def what_is_loaded_answers_and_nothing_else(self) -> None:
        for name in ("a", "b/invoke", "模型", "..%2F"):
            answer = self.endpoint.invoke(name, b"x")
            assert answer.status_code == (200 if name in self.loaded else 404), answer.text
            if self.loaded.get(name) == "echo":
                assert answer.content == b"x"

    @invariant()
    def it_is_healthy(self) -> None:
        assert self.endpoint.ping().status_code == 200


def test_a_server_is_what_its_platform_made_of_it(shared: tuple[OwnServer, Endpoint]) -> None:
    class OnThisServer(ServerLife):
        own, endpoint = shared

    live(OnThisServer, times=20)


class CrowdedLife(ServerLife):
    """It begins with more models than fit into memory."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("a", "b/invoke", "模型"):
            assert self.endpoint.load("echo", name).status_code == 200
            self.loaded[name] = "echo"


def test_a_server_that_is_short_of_memory_is_no_different_to_its_platform(yard: Yard) -> None:
    own, _ = yard(**fitting(2))
    folder = own.models_dir / "crowded"
    folder.mkdir()
    with httpx.Client(base_url=own.base_url, timeout=40.0) as client:
        endpoint = Endpoint(client, folder)
        for behaviour in ("echo", "reports_process"):
            script = Path(endpoint.url_of(behaviour), "code", "inference.py")
            script.write_text(f"{script.read_text()}\nKEPT = b'x' * {FILLS_MB << 20}\n")
        CrowdedLife.own, CrowdedLife.endpoint = own, endpoint
        live(CrowdedLife, times=3)
    assert "evicted" in own.log.read_text()


def live(life: type[ServerLife], *, times: int) -> None:
    """Go through so many lives."""
    run_state_machine_as_test(
        life,
        settings=settings(
            max_examples=times,
            stateful_step_count=10,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
