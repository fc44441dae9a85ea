"""What a zygote does once so that no worker has to."""

from __future__ import annotations

from pathlib import Path

from model_server import probe
from model_server.processes.rehearsal import rehearse


def test_a_rehearsal_leaves_no_thread_and_nothing_open() -> None:
    rehearse()  # the first time imports are done, too
    threads = probe.threads_of_this_process()
    before = {fd.name for fd in Path("/proc/self/fd").iterdir()}
    rehearse()
    after = {fd.name for fd in Path("/proc/self/fd").iterdir()}
    assert after == before
    assert probe.threads_of_this_process() == threads
