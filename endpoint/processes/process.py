"""A process that outlives us: started, found again by another life of ours, stopped.

Nothing ties it to its parent: it leads a session of its own and writes to a file. A later life
finds it by its record, and by nothing less than pid, start time and boot. Its death is seen through
a descriptor of the process, which works for children and for adopted ones alike.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from endpoint.processes import tree
from endpoint.processes.log import ProcessLog
from endpoint.processes.tree import Seen

log = logging.getLogger("modelyard.processes")

Record = Mapping[str, str | int]

UPKEEP_SECONDS = 5.0

_ROUNDS = 10

# Of their own: the loop's threads may all be busy with downloads when a process dies. As many as
# may wait for processes that do not die.
_THREADS = ThreadPoolExecutor(8, thread_name_prefix="modelyard-processes")

# What Python ignores, and so its children would; as ``subprocess`` does it.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


class Process:
    """One that runs, or ran. Made by ``start`` and ``adopt``, both on the event loop."""

    def __init__(self, seen: Seen, mark: str, output: Path, pidfd: int) -> None:
        self.pid = seen.pid
        self.root = seen.pid, seen.started
        self.record: Record = {
            "pid": seen.pid,
            "started": seen.started,
            "boot": tree.boot(),
            "mark": mark,
        }
        self._mark = mark
        self._pidfd = pidfd
        self._log = ProcessLog(output)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._burial: asyncio.Task[None] | None = None
        self._loop.add_reader(pidfd, self._on_exit)
        self._upkeep = asyncio.create_task(self._keep_up())

    @classmethod
    def start(
        cls, command: Sequence[str], environment: Mapping[str, str], *, output: Path, mark: str
    ) -> Process:
        """Start it, with what it prints appended to ``output``.

        ``mark`` is a path that is its own on this machine, at any one time; it goes into its
        environment, and what is left of it can be found by that. Raises OSError.
        """
        path = shutil.which(command[0], path=environment.get("PATH"))
        if path is None:
            raise FileNotFoundError(f"{command[0]} is not there or cannot be run")
        mark = tree.own_mark(mark)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            path,
            list(command),
            {**environment, tree.MARK: mark},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(output), flags, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_IGNORED_BY_PYTHON,
        )
        seen = tree.look(pid)
        assert seen is not None  # it is our child, and nobody has waited for it
        return cls(seen, mark, output, os.pidfd_open(pid))

    @classmethod
    def adopt(cls, record: Record, *, output: Path) -> Process | None:
        """The process of a record, or None if it does not run any more."""
        pid = int(record.get("pid", 0))
        if pid <= 0 or record.get("boot") != tree.boot():
            return None
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        seen = tree.look(pid)  # only now: nobody else can get the pid from here on
        if seen is None or seen.dead or seen.started != record.get("started"):
            os.close(pidfd)
            return None
        return cls(seen, str(record["mark"]), output, pidfd)

    @property
    def running(self) -> bool:
        """Whether it has not ended, as far as we have seen."""
        return not self._ended.done()

    async def ended(self) -> str:
        """Return when it and all that it left behind are gone, with how it ended, in words."""
        return await asyncio.shield(self._ended)

    async def stop(self, timeout_seconds: float) -> None:
        """SIGTERM to it alone, which may pass it on; SIGKILL to all its tree after the timeout."""
        if self.running and self._burial is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.ended()
        except TimeoutError:
            await self._loop.run_in_executor(_THREADS, self._kill_tree)
            await self.ended()

    def last_words(self) -> str:
        """The end of what it printed."""
        return self._log.last_words()

    def close(self) -> None:
        """Look at it no more; it goes on. ``ended`` does not return from here on."""
        self._upkeep.cancel()
        if self._burial is None and self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    async def _keep_up(self) -> None:
        while True:
            try:
                await self._loop.run_in_executor(_THREADS, self._log.shorten)
            except OSError as error:
                log.warning("the log of process %d cannot be cut: %s", self.pid, error)
            await asyncio.sleep(UPKEEP_SECONDS)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._burial = asyncio.create_task(self._bury())

    async def _bury(self) -> None:
        """What it left is killed before it is reaped: until then its session is surely its own."""
        try:
            await self._loop.run_in_executor(_THREADS, self._kill_tree)
        finally:
            words = _reap(self._pidfd)
            os.close(self._pidfd)
            self._upkeep.cancel()
            if not self._ended.done():
                self._ended.set_result(words)

    def _kill_tree(self) -> None:
        tree.kill(tree.tree(*self.root))
        kill_marked(self._mark, since=self.root[1])


def kill_marked(mark: str, *, since: int = 0) -> None:
    """Kill all processes that were started with it, and wait until they are gone. For a thread."""
    for _ in range(_ROUNDS):  # they may fork while we look
        if not tree.kill(tree.marked(mark, since)):
            return
    log.warning("processes with %s=%s cannot be killed", tree.MARK, mark)


def _reap(pidfd: int) -> str:
    """How a dead process ended; if it is our child, that ends it as a zombie too."""
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        return "ended; how is not known, since it was started by an earlier run"
    assert result is not None
    if result.si_code == os.CLD_EXITED:
        return f"exited with code {result.si_status}"
    try:
        name = signal.Signals(result.si_status).name
    except ValueError:
        name = "unknown signal"
    hint = ", perhaps by the kernel for want of memory" if name == "SIGKILL" else ""
    return f"was killed by signal {result.si_status} ({name}){hint}"
