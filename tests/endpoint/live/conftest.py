"""An endpoint of stub containers for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endpoint.yard import Yard


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    with Yard(tmp_path) as started:
        started.add("m.tar.gz", says="hello")
        yield started
        faults = started.faults
    assert not faults
