"""``modelyard load-test``: prepares, has the requests sent, and reports."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import msgspec

from container.environment import current_environment
from modelyard.load_test import figures, options
from modelyard.load_test.dry_run import description
from modelyard.load_test.figures import Run
from modelyard.load_test.page import page
from modelyard.load_test.preparation import Prepared, jobs, prepare, settings
from modelyard.load_test.problem import Problem
from modelyard.load_test.progress import Progress
from modelyard.load_test.report_file import ReportFile
from modelyard.load_test.senders import SenderFailed, Senders
from modelyard.load_test.summary import one_line, summary
from modelyard.load_test.tally import Tally
from modelyard.say import say

_LISTEN_SECONDS = 0.2

# What a model takes in a report, at most, if its name is not extraordinary.
_BYTES_OF_A_MODEL = 400


def main(arguments: Sequence[str]) -> int:
    """Run ``modelyard load-test``; returns the exit code."""
    asked = options.parse(arguments)
    try:
        prepared = prepare(asked, current_environment())
        for note in prepared.notes:
            say(one_line(note))
        if asked.dry_run:
            told = settings(asked, prepared)
            print(description(prepared.plan, prepared.targets, told))  # noqa: T201
            return 0
        with _reports(asked, prepared) as write:
            run = _run(asked, prepared)
            if not run.tally.requests:
                raise Problem("nothing was sent: it ended before the first request was answered")
            print(summary(run), flush=True)  # noqa: T201
            written = write(run)
    except (Problem, SenderFailed) as error:
        say(f"modelyard load-test: {error}")
        return 2
    return 1 if run.tally.failed or run.lost or run.unsent or not written else 0


@contextmanager
def _reports(asked: argparse.Namespace, prepared: Prepared) -> Iterator[Callable[[Run], bool]]:
    """Writes those that were asked for; says whether all could be. Raises Problem."""
    size = _BYTES_OF_A_MODEL * len(prepared.targets)
    files: list[tuple[ReportFile, Callable[[Run], str]]] = []
    with ExitStack() as stack:
        for path, text in ((asked.json, _json), (asked.html, page)):
            if path is not None:
                file = ReportFile(path, size)
                stack.callback(file.close)
                files.append((file, text))

        def write(run: Run) -> bool:
            written = True
            for file, text in files:
                try:
                    file.write(text(run))
                except OSError as error:
                    say(f"modelyard load-test: a report cannot be written: {error}")
                    written = False
            return written

        yield write


def _json(run: Run) -> str:
    return msgspec.json.format(msgspec.json.encode(figures.as_json(run))).decode()


# --- the run ------------------------------------------------------------------------------------


def _run(asked: argparse.Namespace, prepared: Prepared) -> Run:
    count = len(prepared.targets)
    run = Run(
        endpoint=asked.endpoint,
        settings=settings(asked, prepared),
        targets=prepared.targets,
        tally=Tally(count),
        warm_up=Tally(count),
        open_loop=prepared.plan.open_loop,
        began=time.time(),
    )
    with Senders(jobs(asked, prepared)) as senders:
        _listen(run, senders, asked.give_up)
        run.unsent, run.lost = senders.unsent, senders.lost
    run.seconds = run.tally.last_done
    return run


def _listen(run: Run, senders: Senders, give_up_seconds: float) -> None:
    """Until all is done. The first Ctrl-C or SIGTERM ends it in order, the second at once."""
    listening = _Listening(run, senders, give_up_seconds)
    with _interrupts_counted() as interrupts:
        while senders.working:
            listening.once()
            if len(interrupts) > 1:
                run.notes.append("it was broken off: requests in flight are not counted")
                break
            if interrupts and not listening.stopping:
                name = signal.Signals(interrupts[0]).name
                listening.stop(f"it was stopped by {name} before its end")
                say("\nending: requests in flight are waited for; Ctrl-C again to leave at once")
    listening.progress.end()


@contextmanager
def _interrupts_counted() -> Iterator[list[int]]:
    """No Ctrl-C or SIGTERM comes in the middle of something: each is an entry of the list."""
    found: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: found.append(number)) for number in numbers]
    try:
        yield found
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class _Listening:
    """What is heard goes into the run's tallies."""

    def __init__(self, run: Run, senders: Senders, give_up_seconds: float) -> None:
        self.progress = Progress()
        self.stopping = False
        self._run = run
        self._senders = senders
        self._give_up_seconds = give_up_seconds
        self._started = False

    def once(self) -> None:
        """Hear one batch, if there is one."""
        run, senders = self._run, self._senders
        batch = senders.heard(_LISTEN_SECONDS)
        tally = run.tally if self._started else run.warm_up
        if batch is not None:
            tally.add(batch.outcomes, senders.in_flight)
        if not self._started and senders.warm:
            self._started = True
            run.began = time.time()
            senders.start()
        if self._started:
            self.progress.look(run.tally, senders.started_at, senders.in_flight)
        self._look_for_hope(tally)

    def stop(self, note: str) -> None:
        """Have it end early."""
        self.stopping = True
        self._run.notes.append(note)
        self._senders.stop()

    def _look_for_hope(self, tally: Tally) -> None:
        since = tally.hopeless_since
        if since is None or self.stopping or not self._give_up_seconds:
            return
        if tally.last_done - since >= self._give_up_seconds:
            self.stop(
                f"it was ended early: for {self._give_up_seconds:g} s nobody was there to answer "
                "(see the errors; with --give-up 0 it goes on all the same)"
            )
