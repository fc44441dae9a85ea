"""Whether a container is fit to serve: at its start, and from then on.

The platform looks at GET /ping and, where there are many models, at GET /models right after it. A
200 to everything is not enough: the list must be one. See the container contract, health checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from endpoint.instances.container_client import BadAnswer, ContainerClient, ContainerError
from endpoint.settings import EndpointSettings

# Between looks at a container that is starting: often at first, as some take no time at all.
FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 1.0
PAUSE_GROWTH = 1.3

# Looks in a row after which a container counts as up; one may be an accident of its start.
GOOD_LOOKS = 2

# What the container lists, and the loop's time when it was asked: it says nothing about later.
OnListed = Callable[[dict[str, str], float], None]


class NotHealthy(Exception):
    """Raised when a container does not become healthy; the text is for the user."""


async def look(client: ContainerClient, *, multi_model: bool) -> dict[str, str]:
    """Ask once for health, and for the models it lists. Raises ContainerError that says why not.

    A container of one model is not asked for a list; its list is empty.
    """
    answer = await client.ping()
    if answer.status != 200:
        message = f"GET /ping: it must be 200, not {answer.status}: {answer.text}"
        raise BadAnswer(message.rstrip(" :"), answer.status)
    return await client.list_models() if multi_model else {}


async def wait_until_healthy(
    client: ContainerClient,
    *,
    multi_model: bool,
    timeout_seconds: float,
    ended: asyncio.Future[str],
    who: str = "The primary container",
) -> dict[str, str]:
    """Return what a container lists as soon as it is healthy; an adopted one may list something.

    ``ended`` is done, with how, once the container has ended; it is the caller's and is not
    cancelled. ``who`` begins the message. Raises NotHealthy after the timeout, or at the end.
    """
    waiting = _Waiting(client, multi_model, ended)
    try:
        async with asyncio.timeout(timeout_seconds):
            models = await waiting.until_healthy()
    except TimeoutError:
        reason = f"{waiting.seen} within {timeout_seconds:g} s"
    else:
        if models is not None:
            return models
        reason = f"it has ended: {ended.result()}"
    raise NotHealthy(f"{who} did not pass the ping health check: {reason}")


class _Waiting:
    """Looks until all is well; ``seen`` is what was last wrong."""

    def __init__(
        self, client: ContainerClient, multi_model: bool, ended: asyncio.Future[str]
    ) -> None:
        self.seen = "no answer"
        self._client = client
        self._multi_model = multi_model
        self._ended = ended

    async def until_healthy(self) -> dict[str, str] | None:
        """What it lists; None if it has ended."""
        good, pause = 0, FIRST_PAUSE_SECONDS
        while True:
            try:
                models = await look(self._client, multi_model=self._multi_model)
            except ContainerError as error:
                self.seen = str(error)
                good, pause = 0, min(PAUSE_GROWTH * pause, LONGEST_PAUSE_SECONDS)
            else:
                good, pause = good + 1, FIRST_PAUSE_SECONDS
            if self._ended.done():  # the answer may be that of somebody else on its port
                return None
            if good == GOOD_LOOKS:
                return models
            await asyncio.wait({self._ended}, timeout=pause)


class Prober:
    """Looks at a container that serves, until it has not been fit for some looks in a row."""

    def __init__(
        self,
        client: ContainerClient,
        settings: EndpointSettings,
        *,
        multi_model: bool,
        on_listed: OnListed,
        on_failed: Callable[[], None],
    ) -> None:
        self._on_failed = on_failed
        self._client = client
        self._settings = settings
        self._multi_model = multi_model
        self._on_listed = on_listed

    async def run(self) -> str:
        """Return why the container is to be replaced. ``on_listed`` hears of every good list,
        ``on_failed`` of every other look.
        """
        reasons: list[str] = []
        while len(reasons) < self._settings.unhealthy_probes:
            await asyncio.sleep(self._settings.probe_interval_seconds)
            asked_at = asyncio.get_running_loop().time()
            try:
                models = await look(self._client, multi_model=self._multi_model)
            except ContainerError as error:
                reasons.append(str(error))
                self._on_failed()
            else:
                reasons.clear()
                self._on_listed(models, asked_at)
        return f"{len(reasons)} failed health checks in a row; the last: {reasons[-1]}"
