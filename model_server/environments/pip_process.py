"""The process that installs packages into an environment: pip, as a child that does no harm.

Started by the controller with the environment's own interpreter, as the leader of its own group:
``python -P -m model_server.environments.pip_process LIFELINE_FD DIRECTORY OUTPUT_FILE PIP_ARG...``.
It ends with the controller, yields to processes that serve, and is the first to go when memory runs
out.
"""

from __future__ import annotations

import os
import runpy
import sys

from model_server import probe
from model_server.processes import lifeline

_NICE = 10


def main() -> None:
    """Become pip; its exit status is this process's."""
    lifeline_fd, directory, output, *arguments = sys.argv[1:]
    lifeline.arm(int(lifeline_fd))
    probe.prefer_as_oom_victim()
    os.nice(_NICE)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    for standard in (1, 2):
        os.dup2(written, standard)
    os.chdir(directory)  # paths in a requirements file are from where it lies
    sys.argv = ["pip", *arguments]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
