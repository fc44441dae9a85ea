"""Archives served by name, without a platform that extracts and loads them.

This is what ``docker run -v archives:/opt/ml/model`` and the SDK's local mode need: a request names
an archive, which is extracted and loaded when it is first asked for. Names are paths relative to
``model_dir``, as the platform's are to their prefix.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from archives.extraction import ArchiveLimits, extract_archive, model_root
from archives.quoting import shown
from handlers.errors import HandlerError
from handlers.inspection import inspect_model
from model_server import own_directory
from model_server.errors import BadRequest, ModelExists, ModelNotFound, ServerError
from model_server.own_directory import UnsafeDirectory
from model_server.settings import Settings

log = logging.getLogger("modelyard.standalone")

_SUFFIXES = (".tar.gz", ".tgz", ".mar")
_PREFIX = "server-"
_MAX_LISTED = 20
_DEPTHS = (2, 3)

Load = Callable[[str, str, str], Awaitable[None]]


class Archives:
    """The archives in ``model_dir``. ``load(name, url, directory)`` loads what was extracted."""

    def __init__(self, settings: Settings, load: Load) -> None:
        self._folder = Path(settings.model_dir)
        self._extract_dir = Path(settings.extract_dir).absolute()
        self._limits = ArchiveLimits(settings.max_extracted_bytes, settings.max_extracted_files)
        self._options = settings.handler_options
        self._load = load
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._extracted: dict[str, Path] = {}
        self._own: Path | None = None
        self._making_own = threading.Lock()
        self._stop = threading.Event()

    def names(self) -> list[str]:
        """The archives at the top of the folder."""
        try:
            found = [path.name for path in self._folder.iterdir() if path.is_file()]
        except OSError:
            return []
        return sorted(name for name in found if name.endswith(_SUFFIXES) and name[0] != ".")

    def lie_deeper(self) -> bool:
        """Whether there are any in folders, such as ``team/iris.tar.gz``."""
        return any(
            path.name.endswith(_SUFFIXES)
            for depth in _DEPTHS
            for path in self._folder.glob("/".join(["*"] * depth))
        )

    async def ensure(self, name: str) -> None:
        """Extract and load an archive; whoever asks meanwhile waits for the same load."""
        task = self._loads.get(name)
        if task is None:
            task = self._loads[name] = asyncio.create_task(self._bring_up(name))
            task.add_done_callback(lambda done: self._done(name, done))
        await asyncio.shield(task)

    async def forget(self, name: str) -> None:
        """Remove what an archive was extracted to: its model has been unloaded."""
        # Taken out before anything is awaited: whoever asks for it now has it extracted anew.
        directory = self._extracted.pop(name, None)
        if directory is not None:
            await asyncio.to_thread(_remove, directory)

    def close(self) -> None:
        """End what is being extracted, and remove everything that was."""
        self._stop.set()
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)

    def _done(self, name: str, task: asyncio.Task[None]) -> None:
        del self._loads[name]
        if not task.cancelled():
            task.exception()  # seen: all who waited may have left

    async def _bring_up(self, name: str) -> None:
        path = await asyncio.to_thread(self._find, name)
        with suppress(ModelExists):  # by a request to load it
            if path.is_dir():
                await self._load(name, str(path), str(path))
            else:
                await self._load_archive(name, path)

    async def _load_archive(self, name: str, archive: Path) -> None:
        directory = await asyncio.to_thread(self._extract, archive)
        try:
            await self._load(name, str(archive), str(directory))
        except BaseException:
            await asyncio.to_thread(_remove, directory)
            raise
        self._extracted[name] = directory

    def _find(self, name: str) -> Path:
        """The archive or directory of that name. Raises BadRequest or ModelNotFound."""
        path = self._folder / self._spelled(name)
        try:
            if path.is_dir():
                self._check_directory(name, path)
            elif not path.is_file():
                raise ModelNotFound(f"there is no {shown(name)} in {self._folder}{self._there()}")
            elif not name.endswith(_SUFFIXES):
                kinds = ", ".join(_SUFFIXES)
                raise BadRequest(f"{shown(name)} is no archive; their names end with {kinds}")
        except OSError as error:  # a name too long
            raise BadRequest(f"{shown(name)} cannot be looked for: {error.strerror}") from None
        return path

    def _spelled(self, name: str) -> Path:
        """The name as a path. One spelling for each: every other would be one more model."""
        path = Path(name)
        if "\0" in name or not path.parts or ".." in path.parts or path.is_absolute():
            raise BadRequest(f"{shown(name)} is no name of an archive below {self._folder}")
        if str(path) != name:
            raise BadRequest(f"{shown(name)} must be written {shown(str(path))}")
        return path

    def _check_directory(self, name: str, path: Path) -> None:
        """Raise unless it holds a model, and is no part of another."""
        above = path
        while above != self._folder:
            above = above.parent
            if self._is_model(above):
                raise BadRequest(
                    f"{shown(name)} is a part of the model in {above}, which is served without "
                    "the header X-Amzn-SageMaker-Target-Model"
                )
        inspect_model(model_root(path), self._options)

    def _is_model(self, path: Path) -> bool:
        try:
            inspect_model(path, self._options)
        except (HandlerError, OSError):
            return False
        return True

    def _there(self) -> str:
        names = self.names()
        if not names:
            return ", nor any archive"
        more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
        return f"; there are {', '.join(names[:_MAX_LISTED])}{more}"

    def _extract(self, archive: Path) -> Path:
        with self._making_own:
            if self._own is None:
                self._own = self._own_directory()
        target = Path(tempfile.mkdtemp(dir=self._own), "model")
        try:
            extract_archive(archive, target, self._limits, self._stop)
        except BaseException:
            _remove(target)
            raise
        log.info("extracted %s", archive.name)
        return target

    def _own_directory(self) -> Path:
        """A directory of this server alone, locked for as long as it lives."""
        try:
            own_directory.make(self._extract_dir)
        except (OSError, UnsafeDirectory) as error:
            raise ServerError(
                f"cannot extract to {self._extract_dir}: {error}. "
                "MODELYARD_EXTRACT_DIR names another place"
            ) from error
        for path in self._extract_dir.glob(f"{_PREFIX}*"):  # of servers that have been killed
            own_directory.remove_unless_locked(path, path)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=self._extract_dir))
        fcntl.flock(os.open(new, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH)
        return new.rename(new.with_name(new.name.replace(".new-", _PREFIX)))


def _remove(target: Path) -> None:
    """Remove a model's directory and the one made to hold it."""
    shutil.rmtree(target.parent, ignore_errors=True)
