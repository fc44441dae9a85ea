"""What is served where nobody says which models to load, and how health is told of it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from handlers.errors import ModelLoadError
from model_server.errors import ServerUnavailable
from model_server.settings import Settings
from model_server.single_model import SingleModel
from model_server.standalone import Archives

from .yard_parts import until


async def cannot_load(name: str, url: str, directory: str | None = None) -> None:
    """As for a directory without a model."""
    raise ModelLoadError("nothing here can be served", status=400)


def single(folder: Path) -> SingleModel:
    settings = Settings(model_dir=str(folder))
    return SingleModel(str(folder), {}, Archives(settings, cannot_load), cannot_load)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def is_healthy(made: SingleModel) -> bool:
    try:
        made.check_health()
    except ServerUnavailable:
        return False
    return True


def test_health_never_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tar.gz").touch()
    go = threading.Event()
    list_directory = os.listdir

    def slow(*given: Any) -> list[str]:
        assert threading.current_thread() is not threading.main_thread()
        assert go.wait(60)
        return list_directory(*given)

    async def work() -> None:
        made = single(tmp_path)
        monkeypatch.setattr(os, "listdir", slow)
        starting = asyncio.create_task(made.start())
        with pytest.raises(ServerUnavailable, match="still loading"):
            made.check_health()
        go.set()
        await starting
        made.check_health()
        go.clear()
        made._looked_at = 0.0
        for _ in range(100):
            made.check_health()
        go.set()

    run(work())


def test_a_directory_that_is_slow_is_looked_at_once_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.tar.gz").touch()
    looks = 0
    list_directory = os.listdir

    def counted(*given: Any) -> list[str]:
        nonlocal looks
        looks += 1
        return list_directory(*given)

    async def work() -> None:
        made = single(tmp_path)
        await made.start()
        monkeypatch.setattr(os, "listdir", counted)
        made._looked_at = 0.0
        for _ in range(100):
            made.check_health()
            await asyncio.sleep(0)
        assert made._look is not None
        await made._look
        for _ in range(100):
            made.check_health()
        assert looks == 1

    run(work())


def test_health_follows_archives_that_come_and_go(tmp_path: Path) -> None:
    async def work() -> None:
        made = single(tmp_path)
        await made.start()
        assert not is_healthy(made)
        (tmp_path / "a.tar.gz").touch()
        await until(lambda: is_healthy(made))
        (tmp_path / "a.tar.gz").unlink()
        await until(lambda: not is_healthy(made))

    run(work())


def test_archives_in_folders_are_healthy_and_a_folder_without_any_is_not(tmp_path: Path) -> None:
    async def work() -> None:
        (tmp_path / "team").mkdir()
        (tmp_path / "team" / "a.tar.gz").touch()
        made = single(tmp_path)
        await made.start()
        made.check_health()

    run(work())
