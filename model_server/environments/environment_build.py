"""Builds one environment: a virtual environment over the server's own, and pip to fill it.

The server's packages come after the environment's own in ``sys.path``. So what a model asks for
shadows what the server has, the rest is there without being installed again, and nothing of the
server's is touched.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import sysconfig
import time
import venv
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from handlers.types import Requirements
from model_server.environments.environment_key import base_directories
from model_server.environments.environment_store import EnvironmentStore, Stamp
from model_server.environments.pip_command import (
    conflicts,
    last_words,
    pip_arguments,
    pip_environment,
)
from model_server.errors import EnvironmentFailed, ModelTimeout
from model_server.processes.children import Children, describe_exit, group_is_gone, kill_group
from model_server.settings import MIB

log = logging.getLogger("modelyard.environments")

Result = TypeVar("Result")

# What a model's processes import of the server: in every environment as the server has it.
OWN_DISTRIBUTIONS = ("modelyard", "msgspec")
OWN_MODULES = ("handlers", "model_server")

_OUTPUT = "pip.log"
_PINS = "server-packages.txt"


class Builder:
    """Builds environments in a store. ``lifeline_fd`` ends pip when this process ends."""

    def __init__(
        self,
        store: EnvironmentStore,
        children: Children,
        environment: Mapping[str, str],
        *,
        lifeline_fd: int,
        limit_seconds: float,
    ) -> None:
        self._store = store
        self._children = children
        self._environment = pip_environment(environment)
        self._lifeline_fd = lifeline_fd
        self._limit_seconds = limit_seconds

    async def build(self, key: str, requirements: Requirements, lock_fd: int) -> Stamp:
        """Build what is not there. The caller holds the exclusive lock.

        Raises EnvironmentFailed or ModelTimeout that says what to do; then nothing is left of it.
        """
        started = time.monotonic()
        try:
            await _to_the_end(self._lay_out, key)
            await self._install(key, requirements, lock_fd)
            return await _to_the_end(self._finish, key, started)
        except BaseException as error:
            await _to_the_end(self._store.delete, key)
            if not isinstance(error, OSError):
                raise
            raise EnvironmentFailed(
                f"cannot build an environment in {self._store.directory}: {error}. "
                "MODELYARD_ENVIRONMENTS_DIR names another place"
            ) from error

    def _lay_out(self, key: str) -> None:
        """A virtual environment without packages of its own that sees the server's."""
        if find_spec("pip") is None:
            raise EnvironmentFailed(
                f"the model has requirements, but {sys.executable} has no pip to install them with"
            )
        self._store.clear(key)
        path = self._store.path(key)
        path.mkdir(mode=0o755)
        venv.EnvBuilder(symlinks=True).create(path)
        # A set of its own: pip, when it isolates a build, finds out by this what to leave out.
        lines = [f"import site; site.addsitedir({p!r}, set())\n" for p in base_directories()]
        (packages_of(path) / "zzz-modelyard-server.pth").write_text("".join(lines))
        (path / _PINS).write_text("".join(f"{pin}\n" for pin in own_pins()))
        configuration = Path(sys.prefix, "pip.conf")
        if configuration.is_file():
            (path / "pip.conf").symlink_to(configuration)

    async def _install(self, key: str, requirements: Requirements, lock_fd: int) -> None:
        """Run pip. Its process holds the lock too: what outlives this one cannot do harm."""
        path = self._store.path(key)
        directory = Path(requirements.file).parent if requirements.file else path
        command = [
            *(str(path / "bin" / "python"), "-P", "-m", "model_server.environments.pip_process"),
            *(str(self._lifeline_fd), str(directory), str(path / _OUTPUT)),
            *pip_arguments(requirements, path / _PINS),
        ]
        try:
            async with asyncio.timeout(self._limit_seconds):
                code = await self._run(command, lock_fd)
        except TimeoutError:
            words = await asyncio.to_thread(self._words, path, 0)
            raise ModelTimeout(
                f"installing the model's requirements took more than {self._limit_seconds:g} "
                f"seconds (MODELYARD_ENVIRONMENT_TIMEOUT_SECONDS). pip's last words: {words}"
            ) from None
        if code != 0:
            words = await asyncio.to_thread(self._words, path, code)
            raise EnvironmentFailed(f"the model's requirements cannot be installed. {words}")
        for conflict in conflicts((path / _OUTPUT).read_text(errors="backslashreplace")):
            log.warning("environment %s: %s", key, conflict)

    async def _run(self, command: list[str], lock_fd: int) -> int:
        """Run to the end and return the exit code; when cancelled, kill it with its group."""
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def on_exit(code: int) -> None:
            kill_group(pid)  # what a package's set-up left running
            if not ended.done():
                ended.set_result(code)

        pid = self._children.start(
            command,
            on_exit=on_exit,
            pass_fds=(self._lifeline_fd, lock_fd),
            environment=self._environment,
        )
        try:
            return await ended
        finally:
            if ended.cancelled():
                kill_group(pid)
            await group_is_gone(pid)

    def _words(self, path: Path, code: int) -> str:
        """Log all that pip said and return the last of it, with a hint where one is known."""
        try:
            said = (path / _OUTPUT).read_text(errors="backslashreplace")
        except FileNotFoundError:  # it did not come so far
            said = f"pip {describe_exit(code)}"
        log.warning("pip failed:\n%s", said)
        words = last_words(said) or f"pip {describe_exit(code)}"
        for name in re.findall(r"requested \(constraint\) ([\w.-]+)", said):
            if name in OWN_DISTRIBUTIONS:
                return f"{_not_to_change(name)}. {words}"
        if "No space left on device" in said:
            return f"No space is left for them in {self._store.directory}. {words}"
        return words

    def _finish(self, key: str, started: float) -> Stamp:
        """Look at what was installed, and declare it complete."""
        packages = packages_of(self._store.path(key))
        found = {str(one.name).lower(): one.version for one in distributions(path=[str(packages)])}
        for name in OWN_DISTRIBUTIONS:
            if name in found and f"{name}=={found[name]}" not in own_pins():
                raise EnvironmentFailed(_not_to_change(name))
        for name in OWN_MODULES:
            if any(packages.glob(name)) or any(packages.glob(f"{name}.*")):
                raise EnvironmentFailed(
                    f"the model's requirements install a module named {name!r}, which would take "
                    "the place of the server's own: leave out the package that does it"
                )
        names = [f"{name} {number}" for name, number in sorted(found.items())]
        stamp = self._store.finish(key, time.monotonic() - started, names)
        log.info(
            "built environment %s: %.1f s, %.1f MiB, %s",
            key,
            stamp.seconds,
            stamp.bytes / MIB,
            ", ".join(names) or "all of it was there",
        )
        return stamp


async def _to_the_end(function: Callable[..., Result], *given: object) -> Result:
    """Run it in a thread; when cancelled, wait for the thread before that goes on."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *given))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def packages_of(environment: Path) -> Path:
    """The directory in which an environment's own packages lie."""
    base = {"base": str(environment), "platbase": str(environment)}
    return Path(sysconfig.get_path("purelib", "posix_venv", base))


def own_pins() -> list[str]:
    """The server's own packages at the versions that it has."""
    pins = []
    for name in OWN_DISTRIBUTIONS:
        try:
            pins.append(f"{name}=={version(name)}")
        except PackageNotFoundError:  # run from a copy of the source
            log.debug("%s is not installed", name)
    return pins


def _not_to_change(name: str) -> str:
    return (
        f"{name} is one of the server's own packages and stays at {version(name)} in every "
        "environment: leave it out of the requirements, or ask for a range with that version"
    )
