"""Instances for tests of fleets, and what to ask them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

import httpx

from endpoint.fleets.fleet import Container, InstanceSpec
from endpoint.specs import ContainerSpec, Mode

ROOT = Path(__file__).parents[3]
MIB = 1 << 20

# Else frameworks warm up, and test machines have little memory to spare.
OUR_SETTINGS = {"MODELYARD_PRELOAD": "none"}


def spec(
    directory: Path,
    name: str = "one",
    *,
    image: str = "modelyard",
    mode: Mode = Mode.MULTI,
    environment: Mapping[str, str] = OUR_SETTINGS,
    instance_type: str = "local",
    memory_limit_bytes: int | None = 512 * MIB,
) -> InstanceSpec:
    """An instance of that name below the directory."""
    container = ContainerSpec(image, mode, "", environment)
    return InstanceSpec(name, container, instance_type, directory / name, memory_limit_bytes)


def put(model: str, where: Path) -> Path:
    """One of the models of the tests, in this directory."""
    return Path(shutil.copytree(ROOT / "tests" / "models" / model, where))


def client(container: Container) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=container.url, timeout=30, trust_env=False)


async def healthy(container: Container) -> None:
    """Return when it answers its ping with 200. Fails if it ends before."""
    ended = asyncio.create_task(container.ended())
    try:
        async with client(container) as http, asyncio.timeout(40):
            while not await _pings(http):
                assert not ended.done(), f"{ended.result()}: {container.last_words()}"
                await asyncio.sleep(0.05)
    finally:
        ended.cancel()


async def _pings(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/ping")).status_code == 200
    except httpx.TransportError:
        return False


async def invoked(container: Container, model: str, body: bytes) -> bytes:
    """Put the model where the container sees it, load and invoke it."""
    directory = await asyncio.to_thread(put, model, container.models / model / "model")
    async with client(container) as http:
        order = {"model_name": model, "url": container.path(directory)}
        (await http.post("/models", json=order)).raise_for_status()
        return (await http.post(f"/models/{model}/invoke", content=body)).content
