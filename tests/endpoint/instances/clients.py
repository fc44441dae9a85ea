"""A client of a stub container, for as long as a test runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from endpoint.instances.container_client import ContainerClient, open_session

T = TypeVar("T")

SECONDS = 40.0  # for answers that come
MAX_BODY_BYTES = 3 << 20


@asynccontextmanager
async def client_of(
    url: str, *, ping_timeout_seconds: float = SECONDS, max_body_bytes: int = MAX_BODY_BYTES
) -> AsyncIterator[ContainerClient]:
    """With connections of its own."""
    async with open_session() as session:
        yield ContainerClient(
            session,
            url,
            connect_timeout_seconds=SECONDS,
            ping_timeout_seconds=ping_timeout_seconds,
            max_body_bytes=max_body_bytes,
        )


def with_client(url: str, ask: Callable[[ContainerClient], Awaitable[T]]) -> T:
    """What ``ask`` returns, in an event loop of its own."""

    async def run() -> T:
        async with client_of(url) as client:
            return await ask(client)

    return asyncio.run(run())
