"""The controller: parent of every process and the only owner of state, on one event loop.

It starts the gateways and the zygotes, answers what gateways ask on ``control.sock``, and on
SIGTERM drains and leaves. Requests to models do not pass through it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from archives.errors import ExtractionError
from archives.quoting import shown
from handlers.errors import HandlerError
from handlers.frameworks import FRAMEWORKS
from model_server import probe, wire
from model_server.accounts import Accounts
from model_server.background import Background, for_ever
from model_server.environments.environments import Environments
from model_server.errors import ServerError, ServerUnavailable, problem_of
from model_server.eviction import Evictions
from model_server.eviction_counts import EvictionCounts
from model_server.gpus import gpu_probe
from model_server.growth_relief import GrowthRelief
from model_server.learned import Learned
from model_server.lifecycle import Lifecycle
from model_server.memory.decisions import DecisionLog
from model_server.memory.ledger import MIB, RAM
from model_server.memory.policies import POLICIES
from model_server.memory.shadows import Shadows
from model_server.memory_report import memory_report
from model_server.metrics import GatewayTotals, snapshot
from model_server.model import Model, State
from model_server.processes.children import Children, kill_group
from model_server.processes.gateways import Gateways
from model_server.processes.lifeline import Lifeline
from model_server.processes.workers import Workers
from model_server.processes.zygotes import ZygotePool
from model_server.room import Room
from model_server.run_dir import RunDir
from model_server.settings import LOAD_ALL, PRELOAD_AUTO, PRELOAD_NONE, PRELOADED, Settings
from model_server.single_model import SingleModel
from model_server.socket_queues import waiting_connections
from model_server.standalone import Archives
from model_server.starting import Starter
from model_server.stats import StatsTable
from model_server.tasks import Tasks
from model_server.upkeep import Upkeep
from model_server.watch import Watch

log = logging.getLogger("modelyard")

# Zygotes that warm up by themselves may take this share of the memory limit.
_PRELOAD_SHARE = 0.1

# Share of the ceiling that models and server may fill; the rest is for page cache and bursts.
USABLE_SHARE = 0.9
_LEAST_ROOM_BYTES = 40 * MIB

# How often the server's own memory is measured.
_FIRST_WEIGH_SECONDS = 0.25
_WEIGH_SECONDS = 4.0
_LOOKS_AT_UNSEEN = 5

_TIDY_SECONDS = 30.0
_KEEP_SECONDS = 10.0
_GPU_LOOK_SECONDS = 2.0
_NO_GPU_LOOK_SECONDS = 30.0

# After the drain: time to kill what did not leave and to clean up, within SageMaker's 30 s.
_SHUTDOWN_MARGIN_SECONDS = 3.0


def _usable_bytes() -> int:
    """What models and server may fill of what there is."""
    ceiling = probe.memory_ceiling_bytes()
    return ceiling - max(int(ceiling * (1 - USABLE_SHARE)), min(_LEAST_ROOM_BYTES, ceiling // 4))


GatewayCommand = Callable[[Settings, RunDir, int, int], Sequence[str]]


class Controller:
    """One server, from start to exit code."""

    def __init__(
        self, settings: Settings, environment: Mapping[str, str], gateway_command: GatewayCommand
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._gateway_command = gateway_command
        self._gateway_totals = GatewayTotals()
        self._port_open = asyncio.Event()
        self._stopping = False
        self._own_bytes = 0
        self._unseen: deque[int] = deque(maxlen=_LOOKS_AT_UNSEEN)
        self._unseen_bytes = 0
        self._background = Background()
        self._decisions = DecisionLog()
        self._shadows = Shadows([policy for policy in POLICIES.values() if policy.evicts])
        self._eviction_counts = EvictionCounts()

    async def run(self, listener: socket.socket, run_dir: RunDir) -> None:
        """Serve on ``listener`` until SIGTERM or SIGINT, then remove ``run_dir``."""
        try:
            self._build(run_dir, listener)
            stop = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            control = await asyncio.start_unix_server(
                self._converse, run_dir.control_socket, backlog=1024
            )
            self._gateways.start()
            self._start_background()
            await stop.wait()
            await self._stop(listener)
            control.close()
        finally:
            run_dir.remove()

    def _build(self, run_dir: RunDir, listener: socket.socket) -> None:
        settings = self._settings
        lifeline = self._lifeline = Lifeline()
        Path(run_dir.settings_file).write_bytes(msgspec.json.encode(settings))
        stats = StatsTable.create(run_dir.stats_file)
        limit = settings.memory_limit_bytes or _usable_bytes()
        self._limit_bytes = limit
        self._shadows.resize(limit)
        children = Children(on_adopted_exit=self._adopted_exit)
        children.watch(asyncio.get_running_loop())
        self._zygotes = ZygotePool(
            settings,
            children,
            lifeline_fd=lifeline.read_fd,
            stats_path=run_dir.stats_file,
            environment=self._environment,
            on_worker_exit=lambda pid, code: self._workers.told_of_exit(pid, code),
        )
        self._models: dict[str, Model] = {}
        self._learned = Learned.read(settings.learned_sizes_file)
        self._accounts = Accounts(
            self._models,
            limit_bytes=limit,
            gpu_limit_bytes=settings.gpu_memory_limit_bytes,
            overhead_bytes=lambda: (
                self._own_bytes + self._zygotes.private_bytes + self._unseen_bytes
            ),
            zygote_bytes=self._zygotes.bytes_to_start,
            learned=self._learned,
            gpus=gpu_probe(
                settings.gpu_probe, cuda_visible=self._environment.get("CUDA_VISIBLE_DEVICES")
            ),
        )
        self._workers = Workers(
            settings,
            stats,
            self._zygotes,
            lambda model, worker, code: self._upkeep.worker_died(model, worker, code),
            on_used=self._used,
            models_bytes=lambda: self._accounts.models_bytes,
        )
        tasks = Tasks()
        self._environments = Environments(
            settings, self._environment, children, lifeline_fd=lifeline.read_fd
        )
        evictions = Evictions(
            self._models, self._accounts, self._workers, tasks, self._eviction_counts
        )
        self._room = Room(
            self._models,
            self._accounts,
            POLICIES[settings.eviction_policy],
            wait_seconds=settings.memory_wait_seconds,
            log=self._decisions,
            counts=self._eviction_counts,
            evict=evictions.begin,
        )
        starter = Starter(
            settings,
            self._accounts,
            self._room,
            self._workers,
            self._environments,
            self._eviction_counts,
        )
        evictions.use(self._room, starter)
        self._upkeep = Upkeep(
            self._models,
            self._workers,
            self._accounts,
            self._room,
            settings,
            tasks.spawn,
            evictions.lost,
        )
        self._lifecycle = Lifecycle(
            settings,
            run_dir,
            self._models,
            accounts=self._accounts,
            workers=self._workers,
            upkeep=self._upkeep,
            evictions=evictions,
            tasks=tasks,
        )
        self._growth = GrowthRelief(self._models, self._workers, self._accounts, self._room, tasks)
        self._watch = Watch(
            self._workers,
            stats,
            ram=self._accounts.ledger,
            ceiling_bytes=probe.memory_ceiling_bytes(),
            on_growth=self._growth.grown,
            on_pressure=self._growth.relieve,
            on_stop=self._eviction_counts.stopped,
        )
        self._archives = Archives(settings, self._lifecycle.load)
        self._single = None if settings.multi_model else self._single_model()
        self._gateways = Gateways(
            children,
            self._gateway_command(settings, run_dir, listener.fileno(), lifeline.read_fd),
            listener,
            lifeline_fd=lifeline.read_fd,
            environment=self._environment,
        )

    def _adopted_exit(self, pid: int, code: int) -> None:
        """A worker that had lost its zygote, or something that the model's code left behind."""
        kill_group(pid)  # the zygote would have done it
        self._workers.told_of_exit(pid, code)

    def _single_model(self) -> SingleModel:
        model_dir, lifecycle = self._settings.model_dir, self._lifecycle
        return SingleModel(model_dir, self._models, self._archives, lifecycle.load)

    def _start_background(self) -> None:
        for work in (
            self._workers.watch_time_limits,
            self._watch.run,
            self._growth.remeasure,
            self._upkeep.follow_demand,
            self._tidy_environments,
            self._weigh_server,
            self._look_at_gpus,
            self._keep_learned,
        ):
            self._background.begin(for_ever(work))
        self._background.begin(self._preload())
        self._background.begin(self._load_first())

    async def _stop(self, listener: socket.socket) -> None:
        """Finish what is under way, within the limits, and end every process."""
        log.info("stopping: running requests may finish")
        self._stopping = True
        listener.close()
        await self._environments.close()
        await self._lifecycle.abort_loads()
        deadline = asyncio.get_running_loop().time() + self._settings.drain_timeout_seconds
        await self._gateways.stop(self._settings.drain_timeout_seconds + _SHUTDOWN_MARGIN_SECONDS)
        self._background.cancel()
        left = max(deadline - asyncio.get_running_loop().time(), 0.5)
        await self._lifecycle.close(left)
        self._zygotes.close()
        self._archives.close()
        self._lifeline.close()
        await asyncio.to_thread(self._learned.write)
        log.info("stopped")

    async def _weigh_server(self) -> None:
        """Keep the ledger's charge for controller and gateways true. Runs for ever."""
        pause = _FIRST_WEIGH_SECONDS  # gateways come up one after another
        while True:
            pids = [os.getpid(), self._gateways.pid, *self._gateway_totals.in_flight]
            sizes = [await asyncio.to_thread(probe.proportional_bytes, pid) for pid in pids if pid]
            self._own_bytes = sum(sizes)
            self._note_unseen()
            self._shadows.resize(self._accounts.models_bytes)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _WEIGH_SECONDS)

    def _note_unseen(self) -> None:
        """Charge what the kernel counts for this container and no ledger knows of, if it stays.

        Processes that models have left behind, say, or memory of the kernel's own.
        """
        in_use = probe.memory_use_bytes()
        if in_use is None:
            return
        ledger = self._accounts.ledger()
        known = ledger.overhead_bytes - self._unseen_bytes + ledger.held_bytes
        self._unseen.append(in_use - known - ledger.leaving_bytes)
        if len(self._unseen) == self._unseen.maxlen:
            self._unseen_bytes = max(min(self._unseen), 0)

    async def _look_at_gpus(self) -> None:
        """Keep the GPUs' ledgers true. Runs for ever."""
        while True:
            await self._accounts.look_at_gpus()
            has_gpus = self._accounts.has_gpus
            await asyncio.sleep(_GPU_LOOK_SECONDS if has_gpus else _NO_GPU_LOOK_SECONDS)

    async def _keep_learned(self) -> None:
        """Write down what was learned. Runs for ever."""
        while True:
            await asyncio.sleep(_KEEP_SECONDS)
            if self._learned.dirty:
                await asyncio.to_thread(self._learned.write)

    async def _tidy_environments(self) -> None:
        """Give back what environments take that no model uses any more. Runs for ever."""
        while True:
            used = {
                (model.plan.framework, model.environment.key)
                for model in self._models.values()
                if model.environment is not None and model.environment.key
            }
            # The packages of an evicted model stay on disk, but nothing of it in memory.
            present = {
                (model.plan.framework, model.environment_key)
                for model in self._models.values()
                if model.state is not State.EVICTED
            }
            self._zygotes.close_unused(used & present)
            await self._environments.collect({key for _, key in used} | self._zygotes.environments)
            await asyncio.sleep(_TIDY_SECONDS)

    async def _preload(self) -> None:
        """Warm zygotes up, once the port answers."""
        await self._port_open.wait()
        wanted = self._settings.preload
        if wanted == PRELOAD_NONE:
            return
        if wanted == PRELOAD_AUTO:
            installed = [name for name in PRELOADED if FRAMEWORKS[name].installed()]
            budget = int(self._limit_bytes * _PRELOAD_SHARE)
            await self._zygotes.preload(tuple(installed), budget)
        else:
            await self._zygotes.preload(tuple(wanted.split(",")), None)

    async def _load_first(self) -> None:
        """Load what is to be there from the start."""
        await self._accounts.look_at_gpus()
        if self._single is not None:
            await self._single.start()
        for entry in self._settings.load_models:
            for name in await self._named(entry):
                await self._load_one(name)

    async def _named(self, entry: str) -> list[str]:
        if self._single is None or entry != LOAD_ALL:
            return [entry]
        return await asyncio.to_thread(self._archives.names)

    async def _load_one(self, entry: str) -> None:
        name, _, directory = entry.partition("=")
        try:
            if directory:
                await self._lifecycle.load(name, directory)
            else:
                await self._archives.ensure(name)
        except (ServerError, HandlerError, ExtractionError) as error:
            log.error("cannot load %s at the start: %s", shown(name), error.message)

    # --- control.sock ---------------------------------------------------------------------------

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the commands of one connection, one after another."""
        gateway = 0
        try:
            while True:
                command = await wire.read_command(reader)
                if isinstance(command, wire.GatewayCounts):
                    gateway = command.pid
                writer.write(wire.message(await self._answer(command)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            log.debug("a gateway hung up")
        finally:
            writer.close()
            self._gateway_totals.in_flight.pop(gateway, None)

    async def _answer(self, command: wire.Command) -> wire.Answer:
        try:
            return await self._obey(command)
        except (ServerError, HandlerError, ExtractionError) as error:
            return wire.Failed(problem_of(error))
        except Exception as error:
            log.exception("%s failed", type(command).__name__)
            return wire.Failed(ServerError(f"internal error: {error!r}").problem())

    async def _obey(self, command: wire.Command) -> wire.Answer:
        lifecycle = self._lifecycle
        match command:
            case wire.Ensure(name):
                await self._ensure(name)
            case wire.Fate(name, key):
                return wire.FateFound(await lifecycle.fate(name, key))
            case wire.Ping():
                self._check_health()
            case wire.Load(name, url):
                await lifecycle.load(name, url)
            case wire.Unload(name):
                await lifecycle.unload(name)
                self._shadows.forget(name)
                await self._archives.forget(name)
            case wire.GatewayCounts():
                self._port_open.set()
                self._gateway_totals.add(command)
                limits = lifecycle.limits
                known = command.limits_seen == limits.version
                return wire.Limits(limits.version, None) if known else limits
            case wire.MakeRoom(name):
                await lifecycle.make_room(name)
            case _:
                return await self._show(command)
        return wire.Done()

    async def _show(self, command: wire.Command) -> wire.Answer:
        """Answer what changes nothing."""
        match command:
            case wire.Get(name):
                return wire.ModelFound(await self._lifecycle.info(name))
            case wire.List(limit, token):
                return self._lifecycle.page(limit, token)
            case wire.Metrics():
                return wire.Text(await self._metrics())
            case wire.ShowMemory():
                return self._memory()
            case wire.ShowDecisions(name, limit):
                return wire.DecisionsFound(self._decisions.about(name, limit))
        raise ServerError(f"{type(command).__name__} is not known")

    def _used(self, model: Model, times: int, now: float) -> None:
        """A model has finished so many requests."""
        self._room.uses.used(model, times, now)
        resident = model.resident
        size = model.held_bytes or model.last_held.get(RAM, 0)
        if size:
            self._shadows.used(model.name, size, resident.reload_seconds, now, times)

    def _memory(self) -> wire.MemoryInfo:
        ledgers = self._accounts.ledgers().values()
        return memory_report(self._models.values(), ledgers, self._room, self._shadows)

    async def _ensure(self, name: str) -> None:
        if self._single is not None:
            await self._single.ensure(name)
        await self._lifecycle.ensure(name)

    def _check_health(self) -> None:
        """Raise while the server should get no traffic."""
        if self._stopping:
            raise ServerUnavailable("the server is stopping")
        if self._single is not None:
            self._single.check_health()
        # else it lives; what its models do is not the platform's business

    async def _metrics(self) -> str:
        waiting = await asyncio.to_thread(waiting_connections)
        text = snapshot(
            self._lifecycle,
            self._upkeep.restarts,
            self._zygotes,
            self._gateway_totals,
            waiting,
            memory_report((), self._accounts.ledgers().values(), self._room, self._shadows),
            self._eviction_counts,
        )
        return await asyncio.to_thread(text)
