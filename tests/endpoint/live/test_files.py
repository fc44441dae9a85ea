"""Files of instances that are gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from endpoint.live.files import remove_directory


def test_a_directory_goes_with_all_that_is_in_it_or_is_gone_already(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "instance/models/one").mkdir(parents=True)
    (tmp_path / "instance/log").write_text("log")
    for _ in range(2):
        asyncio.run(remove_directory(tmp_path / "instance"))
    assert not (tmp_path / "instance").exists()
    assert caplog.text == ""


def test_what_cannot_be_removed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "instance"
    path.write_text("no directory")
    asyncio.run(remove_directory(path))
    assert path.exists()
    assert f"{path} cannot be removed" in caplog.text
