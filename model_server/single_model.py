"""What a server does that is not told which models to load: it serves the one model in its
directory or, where that holds archives, each when it is asked for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from handlers.errors import HandlerError
from model_server.errors import (
    BadRequest,
    ModelExists,
    Problem,
    ServerError,
    ServerUnavailable,
    problem_of,
)
from model_server.model import Model
from model_server.settings import SINGLE_MODEL
from model_server.standalone import Archives

log = logging.getLogger("modelyard.standalone")

# How often ``/ping`` may have the directory looked at.
_LOOK_SECONDS = 1.0

Load = Callable[[str, str], Awaitable[None]]


class SingleModel:
    """The model in ``model_dir``. ``load(name, url)`` loads it; ``models`` are those loaded."""

    def __init__(
        self, model_dir: str, models: Mapping[str, Model], archives: Archives, load: Load
    ) -> None:
        self._model_dir = model_dir
        self._models = models
        self._archives = archives
        self._load = load
        self._problem: Problem | None = None
        self._has_archives = False
        self._has_deep_archives = False
        self._look: asyncio.Task[None] | None = None
        self._looked_at = 0.0

    async def start(self) -> None:
        """Load what is there, unless it is archives."""
        await self._look_at_archives()
        if self._has_archives:
            return
        try:
            await self._load(SINGLE_MODEL, self._model_dir)
        except (ServerError, HandlerError) as error:
            await self._note(error)

    async def _note(self, error: ServerError | HandlerError) -> None:
        """Remember why it cannot be loaded, unless there are archives after all."""
        if await asyncio.to_thread(self._archives.lie_deeper):
            log.info("%s holds archives: each is loaded on demand", self._model_dir)
            self._has_deep_archives = True
            return
        self._problem = problem_of(error)
        log.error("cannot serve %s: %s", self._model_dir, self._problem.message)

    async def ensure(self, name: str) -> None:
        """Load what a request names, or the one model, if it is not there."""
        model = self._models.get(name)
        if model is not None and model.is_leaving:
            await model.settled.wait()
        if name in self._models:
            return
        if name == SINGLE_MODEL:
            await self._ensure_single()
        else:
            await self._archives.ensure(name)

    async def _ensure_single(self) -> None:
        """A request that names no archive, and the model is not there."""
        self._check_loaded()
        names = await asyncio.to_thread(self._archives.names)
        if not names:
            return
        try:
            with suppress(ModelExists):
                await self._load(SINGLE_MODEL, self._model_dir)
        except HandlerError as error:
            raise BadRequest(
                f"{self._model_dir} holds archives; name one in the header "
                f"X-Amzn-SageMaker-Target-Model, e.g. {names[0]}"
            ) from error

    def check_health(self) -> None:
        """Raise ServerUnavailable while there should be no traffic. Never waits for the disk."""
        self._look_again()
        if self._has_archives or self._has_deep_archives:
            return  # each is loaded when it is asked for
        self._check_loaded()
        model = self._models.get(SINGLE_MODEL)
        if model is None or not model.resident.ready_at:
            raise ServerUnavailable("the model is still loading")

    def _check_loaded(self) -> None:
        if self._problem is not None:
            raise ServerUnavailable(f"the model has not loaded: {self._problem.message}")

    def _look_again(self) -> None:
        """Have the next answer know of archives that came or went, without waiting for it."""
        rested = time.monotonic() - self._looked_at > _LOOK_SECONDS
        if rested and (self._look is None or self._look.done()):
            self._look = asyncio.create_task(self._look_at_archives())

    async def _look_at_archives(self) -> None:
        self._has_archives = bool(await asyncio.to_thread(self._archives.names))
        self._looked_at = time.monotonic()
