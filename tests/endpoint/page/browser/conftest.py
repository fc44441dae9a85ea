"""One browser for all tests of the page, and a server of a made-up endpoint for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from benchmarks.chromium import NoChromium, chromium
from tests.endpoint.page.browser.made_up import MadeUp, Served, instance, served, variant
from tests.endpoint.page.browser.window import Window


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    try:
        with chromium(tmp_path_factory.mktemp("chromium")) as driver:
            yield driver
    except NoChromium as error:
        pytest.skip(str(error))


@pytest.fixture
def window(driver: Chrome) -> Iterator[Window]:
    window = Window(driver)
    yield window
    window.leave()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    """Without an endpoint."""
    with served(MadeUp(), tmp_path) as server:
        yield server


@pytest.fixture
def one(server: Served) -> Served:
    """With an endpoint of two instances that have no models."""
    with server.change() as made:
        made.endpoint(variant(instance("i-first"), instance("i-second")))
    return server
