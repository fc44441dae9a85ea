"""Processes that outlive us: real ones, that hang, fork, print and die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from endpoint.processes import memory, tree
from endpoint.processes.log import KEPT_BYTES, ProcessLog
from endpoint.processes.memory import Scanner
from endpoint.processes.process import Process, kill_marked

MIB = 1 << 20

PYTHON = (sys.executable, "-S", "-c")
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}

# Say that all is set up, and hang.
READY = """import os, signal, sys
def ready(fifo):
    with open(fifo, "w") as file:
        file.write(f"{os.getpid()}\\n")
"""
HANG = "while True: signal.pause()\n"

HANGS = f"{READY}ready(sys.argv[1])\n{HANG}"
DIES_OF_TERM_WITH_CODE_3 = (
    f"{READY}signal.signal(signal.SIGTERM, lambda *_: os._exit(3))\nready(sys.argv[1])\n{HANG}"
)
IGNORES_TERM_AND_HAS_A_CHILD = (
    f"{READY}signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    f"if os.fork() == 0: os.setsid(); ready(sys.argv[1])\n{HANG}"
)
LEAVES_AN_ORPHAN = (
    f"{READY}if os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n"
    f"    ready(sys.argv[1])\n    {HANG}  os._exit(0)\n"
    "os.wait(); signal.pause()\n"
)
TELLS_OF_TERM_IN_ITS_CHILD = (
    f"{READY}def tell(*_):\n  print('told', os.getpid(), flush=True)\n  os._exit(0)\n"
    "signal.signal(signal.SIGTERM, tell)\n"
    f"if os.fork() == 0: ready(sys.argv[1])\n{HANG}"
)
SHARES_100_MIB_WITH_4_CHILDREN = (
    f"{READY}held = bytearray(os.urandom(1024)) * (100 << 10)\n"
    "for n in range(4):\n"
    f"  if os.fork() == 0:\n    ready(sys.argv[1])\n    {HANG}{HANG}"
)
HAS_A_CHILD_OF_100_MIB = (
    f"{READY}if os.fork() == 0:\n  held = bytearray(os.urandom(1024)) * (100 << 10)\n"
    f"  ready(sys.argv[1])\n  signal.pause()\n{HANG}"
)


class Started:
    """A process, and the pids that it has told of."""

    def __init__(self, tmp_path: Path, code: str, tells: int = 1) -> None:
        self.output, self.mark = tmp_path / "log", str(tmp_path)
        self._fifo, self._tells = tmp_path / "ready", tells
        os.mkfifo(self._fifo)
        self.process = Process.start(
            [*PYTHON, code, str(self._fifo)], ENVIRONMENT, output=self.output, mark=self.mark
        )

    async def ready(self) -> list[int]:
        """The pids, once all have told."""
        loop, pids = asyncio.get_running_loop(), list[int]()
        fifo = os.open(self._fifo, os.O_RDWR | os.O_NONBLOCK)
        heard = asyncio.Event()
        loop.add_reader(fifo, heard.set)
        try:
            while len(pids) < self._tells:
                async with asyncio.timeout(60):
                    await heard.wait()
                heard.clear()
                with suppress(BlockingIOError):  # heard of twice
                    pids += [int(line) for line in os.read(fifo, 4096).split()]
        finally:
            loop.remove_reader(fifo)
            os.close(fifo)
        return pids


def run(tmp_path: Path, code: str) -> Process:
    """One that tells nothing."""
    return Process.start([*PYTHON, code], ENVIRONMENT, output=tmp_path / "log", mark=str(tmp_path))


def lives(pid: int) -> bool:
    seen = tree.look(pid)
    return seen is not None and not seen.dead


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> object:
    """Whatever a test does, its processes end with it."""
    yield
    kill_marked(str(tmp_path))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(7)", "exited with code 7"),
        ("pass", "exited with code 0"),
        (
            "import os; os.kill(os.getpid(), 9)",
            "was killed by signal 9 (SIGKILL), perhaps by the kernel",
        ),
        ("import os; os.kill(os.getpid(), 11)", "was killed by signal 11 (SIGSEGV)"),
        ("import os; os.kill(os.getpid(), 40)", "was killed by signal 40 (unknown signal)"),
    ],
)
def test_how_it_ended_is_told_in_words(tmp_path: Path, code: str, words: str) -> None:
    async def main() -> None:
        process = run(tmp_path, code)
        assert words in await process.ended()
        assert not process.running
        assert tree.look(process.pid) is None, "a zombie"

    asyncio.run(main())


def test_what_it_prints_is_in_the_file_and_its_end_are_its_last_words(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "log").write_text("of an earlier one\n")
        process = run(tmp_path, "import sys; print('out'); print('é\\udcff', file=sys.stderr)")
        await process.ended()
        lines = process.last_words().splitlines()
        assert set(lines) == {"of an earlier one", "out", "é\\udcff"}

    asyncio.run(main())


def test_its_environment_is_what_was_given_and_it_reads_no_input(tmp_path: Path) -> None:
    async def main() -> None:
        code = "import os, sys; print(sorted(set(os.environ) - {'LC_CTYPE'}), sys.stdin.read())"
        process = run(tmp_path, code)
        assert await process.ended() == "exited with code 0"
        assert process.last_words() == "['PATH', 'PYTHONPATH', '_MODELYARD_PROCESS']"

    asyncio.run(main())


@pytest.mark.parametrize("command", ["no-such-command", "/etc/passwd", "/nowhere/at/all"])
def test_a_command_that_cannot_run_is_an_error(tmp_path: Path, command: str) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match=command):
            Process.start([command], ENVIRONMENT, output=tmp_path / "log", mark=str(tmp_path))

    asyncio.run(main())


def test_stop_lets_it_end_by_itself(tmp_path: Path) -> None:
    async def main() -> None:
        started = Started(tmp_path, DIES_OF_TERM_WITH_CODE_3)
        await started.ready()
        await started.process.stop(30)
        assert await started.process.ended() == "exited with code 3"
        await started.process.stop(30)  # again, at once

    asyncio.run(main())


def test_stop_tells_the_process_and_not_its_children(tmp_path: Path) -> None:
    async def main() -> None:
        started = Started(tmp_path, TELLS_OF_TERM_IN_ITS_CHILD)
        (child,) = await started.ready()
        await started.process.stop(30)
        assert started.process.last_words() == f"told {started.process.pid}"
        assert not lives(child), "what it leaves behind goes too"

    asyncio.run(main())


def test_one_that_ignores_sigterm_is_killed_with_all_it_started(tmp_path: Path) -> None:
    async def main() -> None:
        started = Started(tmp_path, IGNORES_TERM_AND_HAS_A_CHILD)
        (child,) = await started.ready()
        await started.process.stop(0.1)
        assert "SIGKILL" in await started.process.ended()
        assert not lives(child)

    asyncio.run(main())


def test_orphans_in_sessions_of_their_own_end_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        started = Started(tmp_path, LEAVES_AN_ORPHAN)
        (orphan,) = await started.ready()
        os.kill(started.process.pid, signal.SIGKILL)
        await started.process.ended()
        assert not lives(orphan)

    asyncio.run(main())


def test_stop_can_be_cancelled_and_done_again(tmp_path: Path) -> None:
    async def main() -> None:
        started = Started(tmp_path, IGNORES_TERM_AND_HAS_A_CHILD)
        await started.ready()
        stop = asyncio.create_task(started.process.stop(60))
        await asyncio.sleep(0)
        stop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stop
        assert started.process.running
        await started.process.stop(0)
        assert not started.process.running

    asyncio.run(main())


STARTS_ONE_AND_WAITS_TO_BE_KILLED = """
import asyncio, json, signal, sys
from pathlib import Path
from tests.endpoint.test_processes import HANGS, Started

async def main():
    started = Started(Path(sys.argv[1]), HANGS)
    await started.ready()
    print(json.dumps(started.process.record), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def killed_parent(tmp_path: Path) -> dict[str, str | int]:
    """The record of a process whose parent was killed."""
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE_AND_WAITS_TO_BE_KILLED, str(tmp_path)],
        env={**ENVIRONMENT, "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        line = parent.stdout.readline()
        parent.kill()
    record: dict[str, str | int] = json.loads(line)
    return record


def test_it_outlives_a_killed_parent_and_is_adopted(tmp_path: Path) -> None:
    async def main() -> None:
        record = await asyncio.to_thread(killed_parent, tmp_path)
        process = Process.adopt(record, output=tmp_path / "log")
        assert process is not None
        assert process.record == record
        ended = asyncio.create_task(process.ended())
        await process.stop(30)
        assert "ended" in await ended
        assert not lives(process.pid)
        assert Process.adopt(record, output=tmp_path / "log") is None

    asyncio.run(main())


def test_a_second_life_in_one_process_adopts_too(tmp_path: Path) -> None:
    async def main() -> None:
        started = Started(tmp_path, HANGS)
        await started.ready()
        started.process.close()
        again = Process.adopt(started.process.record, output=started.output)
        assert again is not None
        await again.stop(30)
        assert "SIGTERM" in await again.ended()

    asyncio.run(main())


@pytest.mark.parametrize(
    "change", [{"started": 17}, {"boot": "another"}, {"pid": 0}, {"pid": 1 << 22}]
)
def test_somebody_elses_process_is_not_adopted(
    tmp_path: Path, change: dict[str, str | int]
) -> None:
    async def main() -> None:
        started = Started(tmp_path, HANGS)
        await started.ready()
        record = {**started.process.record, **change}
        assert Process.adopt(record, output=started.output) is None
        assert Process.adopt({}, output=started.output) is None
        assert lives(started.process.pid)
        await started.process.stop(30)

    asyncio.run(main())


def test_a_process_that_started_at_another_time_is_not_signalled(tmp_path: Path) -> None:
    async def main() -> None:
        started = Started(tmp_path, HANGS)
        await started.ready()
        seen = tree.look(started.process.pid)
        assert seen is not None
        recycled = tree.Seen(seen.pid, seen.started - 1, 0, 0, dead=False)
        assert not tree.kill([recycled])
        assert lives(seen.pid)
        await started.process.stop(30)

    asyncio.run(main())


def test_what_an_unknown_one_left_behind_is_found_by_its_mark(tmp_path: Path) -> None:
    async def main() -> None:
        started = Started(tmp_path, IGNORES_TERM_AND_HAS_A_CHILD)
        (child,) = await started.ready()
        kill_marked(started.mark + "x")
        assert lives(child)
        await asyncio.to_thread(kill_marked, started.mark)
        assert not lives(child)
        await started.process.ended()

    asyncio.run(main())


def test_the_end_of_one_does_not_touch_the_next_with_its_mark(tmp_path: Path) -> None:
    async def main() -> None:
        started = Started(tmp_path, HANGS)
        await started.ready()
        os.kill(started.process.pid, signal.SIGKILL)
        following = run(tmp_path, "import signal; signal.pause()")
        await started.process.ended()
        assert lives(following.pid)
        await following.stop(0)

    asyncio.run(main())


async def memory_of(scanner: Scanner, process: Process) -> int:
    """What it takes, asked now."""
    scanner.watch(process.root)
    await scanner.read()
    return scanner.latest(process.root)


def test_memory_that_children_share_counts_once(tmp_path: Path) -> None:
    async def main() -> None:
        scanner, started = Scanner(), Started(tmp_path, SHARES_100_MIB_WITH_4_CHILDREN, tells=4)
        await started.ready()
        assert 100 * MIB < await memory_of(scanner, started.process) < 200 * MIB
        await started.process.stop(0)
        assert await memory_of(scanner, started.process) == 0
        await scanner.close()

    asyncio.run(main())


def test_memory_of_a_child_that_ended_counts_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        scanner, started = Scanner(), Started(tmp_path, HAS_A_CHILD_OF_100_MIB)
        (child,) = await started.ready()
        before = await memory_of(scanner, started.process)
        gone = tree.look(child)
        assert gone is not None
        assert tree.kill([gone])
        assert scanner.latest(started.process.root) == before, "nobody has asked"
        assert before - await memory_of(scanner, started.process) > 90 * MIB
        await started.process.stop(0)
        await scanner.close()

    asyncio.run(main())


def test_proc_is_read_once_for_all_who_ask_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = list[float]()
    listed = os.listdir

    def counting(path: str | Path) -> list[str]:
        readings.append(time.monotonic())
        return listed(path)

    async def main() -> None:
        scanner = Scanner()
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        one, two = Started(tmp_path / "a", HANGS), Started(tmp_path / "b", HANGS)
        await asyncio.gather(one.ready(), two.ready())
        scanner.watch(one.process.root)
        scanner.watch(two.process.root)
        monkeypatch.setattr(os, "listdir", counting)
        await asyncio.gather(*(scanner.read() for _ in range(20)))
        monkeypatch.undo()
        assert len(readings) == 1
        assert scanner.latest(one.process.root) > 0 < scanner.latest(two.process.root)
        await asyncio.gather(one.process.stop(5), two.process.stop(5))
        await scanner.close()

    asyncio.run(main())


def test_who_asks_while_proc_is_read_gets_a_later_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, listed, readings = threading.Event(), threading.Event(), os.listdir, list[int]()

    def waiting(path: str | Path) -> list[str]:
        readings.append(1)
        begun.set()
        assert go_on.wait(60)
        return listed(path)

    async def main() -> None:
        scanner, started = Scanner(), Started(tmp_path, HANGS)
        await started.ready()
        scanner.watch(started.process.root)
        monkeypatch.setattr(os, "listdir", waiting)
        first = asyncio.create_task(scanner.read())
        await asyncio.to_thread(begun.wait, 20)
        later = [asyncio.create_task(scanner.read()) for _ in range(5)]
        later[0].cancel()
        assert scanner.latest(started.process.root) == 0, "does not wait"
        go_on.set()
        await asyncio.gather(first, *later[1:])
        assert len(readings) == 2
        monkeypatch.undo()
        await started.process.stop(5)
        await scanner.close()

    asyncio.run(main())


def test_a_stop_does_not_wait_for_a_reading_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, measured = threading.Event(), threading.Event(), memory._measure

    def waiting(pid: int) -> memory._Measured:
        begun.set()
        assert go_on.wait(60)
        return measured(pid)

    async def main() -> None:
        monkeypatch.setattr(memory, "_measure", waiting)
        scanner, started = Scanner(), Started(tmp_path, HANGS)
        await started.ready()
        scanner.watch(started.process.root)
        reading = asyncio.create_task(scanner.read())
        await asyncio.to_thread(begun.wait, 20)
        await started.process.stop(10)
        assert not reading.done()
        go_on.set()
        await reading
        await scanner.close()

    asyncio.run(main())


def test_a_long_log_is_cut_and_its_end_kept(tmp_path: Path) -> None:
    async def main() -> None:
        code = (
            f"{READY}print('x' * 99 + '\\n' * (3 << 20), 'last', flush=True)\n"
            "signal.signal(signal.SIGTERM, lambda *_: (print('end', flush=True), os._exit(0)))\n"
            f"ready(sys.argv[1])\n{HANG}"
        )
        started = Started(tmp_path, code)
        await started.ready()
        log = ProcessLog(started.output, max_bytes=2 * MIB)
        await asyncio.to_thread(log.shorten)
        assert log.last_words() == ""
        older = started.output.with_name("log.1").read_bytes()
        assert older.endswith(b"last\n")
        assert len(older) < min(KEPT_BYTES, 4 * MIB)
        await started.process.stop(30)
        assert started.output.read_bytes() == b"end\n", "it appends: no hole is left"

    asyncio.run(main())


def test_only_the_end_of_a_very_long_log_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "log"
    log = ProcessLog(output, max_bytes=KEPT_BYTES)
    output.write_bytes(b"a" * 10 + b"b" * KEPT_BYTES)
    log.shorten()
    assert output.with_name("log.1").read_bytes() == b"b" * KEPT_BYTES
    log.shorten()
    assert output.stat().st_size == 0


def test_last_words_begin_with_a_whole_line(tmp_path: Path) -> None:
    output = tmp_path / "log"
    log = ProcessLog(output)
    assert log.last_words() == ""
    output.write_text("".join(f"line {number}\n" for number in range(10_000)))
    lines = log.last_words().splitlines()
    assert lines[-1] == "line 9999"
    assert lines[0] == f"line {10_000 - len(lines)}"
    output.write_bytes(b"\xff" * 5_000)
    assert set(log.last_words()) == {"\N{REPLACEMENT CHARACTER}"}
