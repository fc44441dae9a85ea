"""Containers as processes of this machine: this installation's ``serve``, or any command.

Nothing contains them: they see the machine's files, share its memory, and outlive the endpoint,
which finds them again by their records.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from endpoint.fleets.control_group import limit_bytes
from endpoint.fleets.fleet import (
    CpuTime,
    FleetError,
    ImageError,
    InstanceSpec,
    MemoryUse,
    Record,
)
from endpoint.fleets.ports import HOST, Ports, free_blocks, is_free, is_listened_at
from endpoint.processes import tree
from endpoint.processes.memory import Scanner
from endpoint.processes.process import Process, kill_marked
from endpoint.settings import EndpointSettings
from endpoint.specs import ContainerSpec, Mode

# A process may lose its port to another between our look and its own; this often it gets a new one.
_TRIES = 5

# One that listens later than this is left to its health probes.
_LISTENING_SECONDS = 5.0
_LOOK_SECONDS = 0.05


class LocalContainer:
    """A process that serves. ``path`` is as on this machine, whatever the command."""

    has_gpus = True

    def __init__(
        self, spec: InstanceSpec, process: Process, port: int, scanner: Scanner, command: str = ""
    ) -> None:
        """``command`` is what runs, if that is known."""
        self.url = f"http://{HOST}:{port}"
        self.record: Record = {**process.record, "port": port}
        self.models = spec.models
        self._process = process
        self._command = command
        self._limit = spec.memory_limit_bytes or _machine_memory_bytes()
        self._scanner = scanner
        scanner.watch(process.root)

    def path(self, directory: Path) -> str:
        """The directory itself."""
        return str(directory.absolute())

    async def ended(self) -> str:
        """Return when it has ended, with how."""
        return await self._process.ended()

    async def stop(self, timeout_seconds: float) -> None:
        """SIGTERM to the server, which drains; after the timeout SIGKILL to all it has started."""
        await self._process.stop(timeout_seconds)
        self._scanner.forget(self._process.root)

    def memory(self) -> MemoryUse:
        """What all its processes took; the machine's memory is the limit where none is set."""
        return MemoryUse(self._scanner.latest(self._process.root), self._limit)

    def cpu(self) -> CpuTime | None:
        """What all its processes had used."""
        use = self._scanner.use(self._process.root)
        return None if use is None else CpuTime(use.cpu_seconds, use.at)

    async def measure(self) -> MemoryUse:
        """What all its processes take now."""
        await self._scanner.read()
        return self.memory()

    async def last_words(self) -> str:
        """What was run, and the end of its log."""
        words = await asyncio.to_thread(self._process.last_words)
        if not self._command:
            return words
        return f"{self._command!r} printed" + (f":\n{words}" if words else " nothing")


class LocalFleet:
    """Starts them with ``environment``, the container's own, and what the platform sets."""

    def __init__(
        self,
        settings: EndpointSettings,
        environment: Mapping[str, str],
        ports: Callable[[], Iterator[Ports]] = free_blocks,
    ) -> None:
        self._command = settings.local_command
        self._region = settings.region
        self._environment = {
            name: value
            for name, value in environment.items()
            if not name.startswith("MODELYARD_UP_") and name != "SAGEMAKER_MULTI_MODEL"
        }
        self._ports = ports
        self._starting: set[int] = set()
        self._processes: list[Process] = []
        self._scanner = Scanner()

    async def check(self, container: ContainerSpec) -> None:
        """The image may have any name; the command must be one that can run."""
        self._executable_command()

    async def start(self, spec: InstanceSpec) -> LocalContainer:
        """Start it; returns when it listens or has ended, or after a few seconds."""
        command = self._executable_command()
        spec.models.mkdir(parents=True, exist_ok=True)
        ports = (block for block in self._ports() if block.port not in self._starting)
        for _, block in zip(range(_TRIES), ports, strict=False):
            self._starting.add(block.port)
            try:
                process = self._start(spec, command, block)
                if await _has_kept(process, block.port):
                    ran = shlex.join(command)
                    return LocalContainer(spec, process, block.port, self._scanner, ran)
            finally:
                self._starting.discard(block.port)
        raise FleetError(f"instance {spec.id} found no port of {HOST} that stays free")

    async def adopt(self, spec: InstanceSpec, record: Record) -> LocalContainer | None:
        """The process of the record; if it is gone, what it left behind is killed."""
        process = Process.adopt(record, output=spec.log)
        if process is None:
            await asyncio.to_thread(kill_marked, _mark(spec))
            return None
        self._hold(process)
        return LocalContainer(spec, process, int(record["port"]), self._scanner)

    async def measure(self) -> None:
        """One reading of /proc for all, in a thread."""
        await self._scanner.read()

    async def close(self) -> None:
        """Look at the processes no more; they go on."""
        for process in self._processes:
            process.close()
        await self._scanner.close()

    def _executable_command(self) -> list[str]:
        if not self._command:
            return [sys.executable, "-P", "-m", "container.entrypoint"]
        try:
            command = shlex.split(self._command)
        except ValueError as error:
            raise ImageError(f"local_command={self._command!r}: {error}") from None
        path = command and shutil.which(command[0], path=self._environment.get("PATH"))
        if not path or not _is_program(Path(path)):
            raise ImageError(
                f"local_command={self._command!r}: there is no such command that can be run; give "
                "its path, or leave the setting out for the `serve` of this installation"
            )
        return command

    def _start(self, spec: InstanceSpec, command: list[str], ports: Ports) -> Process:
        environment = {
            **self._environment,
            **_our_serve(spec),
            **spec.container.environment,
            **_platform(spec.container, ports, self._region),
        }
        try:
            process = Process.start(command, environment, output=spec.log, mark=_mark(spec))
        except (OSError, ValueError) as error:
            raise FleetError(
                f"instance {spec.id} cannot be started: {shlex.join(command)!r}: {error}"
            ) from error
        self._hold(process)
        return process

    def _hold(self, process: Process) -> None:
        self._processes = [held for held in self._processes if held.running]
        self._processes.append(process)


async def _has_kept(process: Process, port: int) -> bool:
    """Whether its port is its own: not if it has ended while somebody else listens there."""
    try:
        async with asyncio.timeout(_LISTENING_SECONDS):
            while process.running:
                if await asyncio.to_thread(_listens, process, port):
                    return True
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        return True
    return is_free(port)


def _listens(process: Process, port: int) -> bool:
    return is_listened_at(port, _pids(process))


def _pids(process: Process) -> Iterator[int]:
    """Those of its tree; looked for when the first is wanted."""
    for seen in tree.tree(*process.root):
        yield seen.pid


def _is_program(path: Path) -> bool:
    """Whether the kernel can run it: a binary, or a script whose interpreter is there."""
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError:
        return True  # it may be run, but not read
    if not start.startswith(b"#!"):
        return start.startswith(b"\x7fELF")
    interpreter = os.fsdecode(start[2:].split(b"\n")[0]).split()
    return bool(interpreter) and shutil.which(interpreter[0]) is not None


def _our_serve(spec: InstanceSpec) -> dict[str, str]:
    """What servers must know here; the container's environment may say otherwise."""
    limit = spec.memory_limit_bytes
    single = spec.single_model.absolute()
    return {
        "MODELYARD_HOST": HOST,
        "MODELYARD_MODEL_ROOTS": str(spec.models.absolute()),
        "MODELYARD_MULTI_MODEL": "false",  # else the platform's variable says so, and wins
        "MODELYARD_MODEL_DIR": str(single),
        # Not one for all servers of the machine: what these learn is of other limits and models.
        "MODELYARD_LEARNED_SIZES_FILE": str(spec.directory.absolute() / "sizes.json"),
        "SAGEMAKER_BASE_DIR": str(single.parent),  # of AWS's toolkits, in place of /opt/ml
        **({"MODELYARD_MEMORY_LIMIT_BYTES": str(limit)} if limit else {}),
    }


def _platform(container: ContainerSpec, ports: Ports, region: str) -> dict[str, str]:
    """What the platform sets, whatever the container's environment says."""
    multi = {"SAGEMAKER_MULTI_MODEL": "true"} if container.mode is Mode.MULTI else {}
    return {
        **multi,
        "SAGEMAKER_BIND_TO_PORT": str(ports.port),
        "SAGEMAKER_SAFE_PORT_RANGE": ports.safe_range,
        "AWS_REGION": region,
    }


def _mark(spec: InstanceSpec) -> str:
    return str(spec.directory.absolute())


def _machine_memory_bytes() -> int:
    """What this process may have of it, where a control group has less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, limit_bytes() or machine)
