"""The HTTP processes die, one at a time, under steady traffic."""

from __future__ import annotations

import os
import signal

from ...contract.endpoint import Endpoint
from ...contract.polling import eventually
from ...contract.server import OwnServer
from .. import inside
from ..conftest import Yard
from ..traffic import Traffic

Shared = tuple[OwnServer, Endpoint]


def test_a_gateway_that_is_killed_costs_only_what_it_had_in_hand(shared: Shared) -> None:
    own, endpoint = shared
    name = endpoint.loaded("echo")
    assert eventually(lambda: len(inside.gateways(own)) == 2)
    with Traffic(own, name) as traffic:
        killed = min(inside.gateways(own))
        inside.kill(killed)
        assert eventually(lambda: len(inside.gateways(own) - {killed}) == 2)
        traffic.wait_for_more(50)
    assert traffic.outcomes.keys() <= {200, "cut"}
    assert traffic.failed <= traffic.clients


def test_a_gateway_that_is_killed_is_replaced_while_clients_wait(yard: Yard) -> None:
    own, endpoint = yard(MODELYARD_GATEWAYS="1")
    name = endpoint.loaded("echo")
    with Traffic(own, name) as traffic:
        (killed,) = inside.gateways(own)
        inside.kill(killed)
        traffic.wait_for_more(50)
    assert traffic.outcomes.keys() <= {200, "cut"}
    assert traffic.failed <= traffic.clients


def test_a_master_that_is_killed_is_replaced_and_no_request_refused(shared: Shared) -> None:
    own, endpoint = shared
    name = endpoint.loaded("echo")
    with Traffic(own, name) as traffic:
        before, killed = inside.gateways(own), inside.master(own)
        inside.kill(killed)
        assert eventually(lambda: inside.master(own) not in (0, killed))
        assert eventually(lambda: bool(inside.gateways(own) - before))
        assert eventually(lambda: not (own.processes() & before))
        traffic.wait_for_more(50)
    assert "refused" not in traffic.outcomes
    assert traffic.failed == 0, traffic.outcomes


def test_a_master_that_somebody_else_told_to_stop_is_replaced(shared: Shared) -> None:
    own, endpoint = shared
    name = endpoint.loaded("echo")
    with Traffic(own, name) as traffic:
        told = inside.master(own)
        os.kill(told, signal.SIGTERM)
        assert eventually(lambda: inside.master(own) not in (0, told))
        traffic.wait_for_more(50)
    assert traffic.failed == 0, traffic.outcomes


def test_a_gateway_that_hangs_is_replaced(shared: Shared) -> None:
    own, endpoint = shared
    name = endpoint.loaded("echo")
    assert eventually(lambda: len(inside.gateways(own)) == 2)
    hung = min(inside.gateways(own))
    os.kill(hung, signal.SIGABRT)  # what gunicorn sends to one that gives no sign of life
    assert eventually(lambda: len(inside.gateways(own) - {hung}) == 2)
    assert endpoint.invoke(name, b"x").content == b"x"
