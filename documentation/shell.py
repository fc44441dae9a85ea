"""The shell of a reader: an empty folder, this installation, and nothing of AWS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent


class Failed(Exception):
    """Raised with what was printed when a script fails or takes too long."""


class Shell:
    """Runs scripts in a folder."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory = directory
        kept = {
            name: environment[name] for name in ("HOME", "LANG", "TMPDIR") if name in environment
        }
        self._environment = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
            "PYTHONPATH": str(ROOT),  # a reader is in the clone
            "MODELYARD_UP_PORT": "0",  # another may have the one that is the default
            "AWS_CONFIG_FILE": str(directory / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(directory / "none"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def run(self, script: str, timeout_seconds: float) -> str:
        """What it prints, errors too. Raises Failed; then what it has started is told to end."""
        output = self.directory / "printed"  # a pipe would be waited for until servers end
        with output.open("w") as stream:
            process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        try:
            code: int | None = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            code = None
        printed = output.read_text(errors="replace")
        output.unlink()
        if code != 0:
            what = f"after {timeout_seconds} s" if code is None else f"with exit code {code}"
            raise Failed(f"ended {what}:\n{script}\n\n{printed}")
        return printed
