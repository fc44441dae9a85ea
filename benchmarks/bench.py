"""What every benchmark is given: the servers to start, the models, and how thorough to be."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.models import ModelStore
from benchmarks.results import OURS, Results
from benchmarks.servers import Contender, Server


@dataclass
class Bench:
    """One run. ``directory`` is scratch space that goes away with it."""

    contenders: tuple[Contender, ...]
    models: ModelStore
    results: Results
    directory: Path
    quick: bool = False
    _starts: Iterator[int] = field(default_factory=itertools.count)

    def rounds(self, full: int) -> int:
        """How often to repeat: ``full`` times, or once when quick."""
        return 1 if self.quick else full

    def start(self, contender: Contender) -> Server:
        """Start a server that has loaded nothing yet."""
        return Server(contender, self.scratch("server"))

    def scratch(self, name: str) -> Path:
        """A directory, which is not there yet, for one start of something."""
        return self.directory / f"{name}-{next(self._starts)}"

    def ours(self, settings: Mapping[str, str] | None = None) -> Server:
        """Start Modelyard alone, with settings of the benchmark's own."""
        (contender,) = (one for one in self.contenders if one.name == OURS)
        return self.start(contender.having(settings or {}))

    @contextmanager
    def started(self) -> Iterator[list[Server]]:
        """All servers at once, each warm, for rounds that alternate between them."""
        with ExitStack() as stack:
            yield [stack.enter_context(self.warm(contender)) for contender in self.contenders]

    def warm(self, contender: Contender) -> Server:
        """A server that has loaded and unloaded one tiny torch model, as both get to do."""
        server = self.start(contender)
        try:
            server.warm_up(self.models.tiny(0))
        except BaseException:
            server.stop()
            raise
        return server


def seconds(action: Callable[..., object], *arguments: object) -> float:
    """How long ``action`` takes."""
    begin = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - begin


def milliseconds(action: Callable[..., object], *arguments: object) -> float:
    """How long ``action`` takes, in ms."""
    return 1000 * seconds(action, *arguments)
