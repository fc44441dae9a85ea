"""The page in a real browser, of an endpoint that runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.endpoint.page.browser.window import Window
from tests.endpoint.user import until
from tests.endpoint.yard import Yard

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_requests_and_an_instance_that_is_killed(tmp_path: Path, window: Window) -> None:
    with Yard(tmp_path) as yard:
        yard.add("m.tar.gz", says="hello")
        window.open(yard.url)
        window.shows("#empty", "No endpoint yet")
        yard.endpoint(yard.variant(instances=1))
        window.shows(".endpoint-head", "ep", "In service")
        for _ in range(3):
            yard.invoke("m.tar.gz")
        window.shows("#rows tr[data-state=loaded]", "m.tar.gz")
        window.settles(lambda: window.rows()[0]["invocations"] == "3")
        window.settles(lambda: window.rows()[0]["cold"] == "1")
        window.shows(".tile", "Cold starts", "1")
        window.shows(".event", "loaded", "m.tar.gz")
        (victim,) = yard.processes()
        os.kill(victim, signal.SIGKILL)
        window.shows(".event", "instance lost")
        until(lambda: [pid for pid in yard.processes() if pid != victim])
        window.shows(".card[data-state=serving]", "serving")
        window.hides(".card[data-state=lost]")
        yard.invoke("m.tar.gz")
        window.settles(lambda: window.rows()[0]["invocations"] == "4")
        window.leave()
