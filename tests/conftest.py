"""Options of the whole test tree: pytest reads them only from the first conftest it meets."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Let children be interrupted: whoever runs the tests in the background may ignore SIGINT."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let ``tests/contract`` run against a server that somebody else started."""
    group = parser.getgroup("contract", "the multi-model contract suite")
    group.addoption("--base-url", help="test this server instead of starting our own")
    group.addoption(
        "--models-dir",
        type=Path,
        help="with --base-url: a directory that the server sees under the same path",
    )
