"""The process of an endpoint, as ``modelyard up`` sees it: start it, wait for it, stop it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import fields
from pathlib import Path

from container.environment import option_name
from endpoint.settings import EndpointSettings
from modelyard.data_dir import DataDir, Running

# How its last words are found in the log.
FAILED = "modelyard up cannot start: "

# In place of the URL of an S3.
OWN_S3 = "own"

# Python, its packages and an S3 start in some seconds; an older laptop may take a while.
START_SECONDS = 120.0

# Beyond what instances may take to stop.
_STOP_SECONDS = 30.0

_LOG_LINES = 20


class DidNotStart(Exception):
    """Raised with why it does not run; ``code`` is its exit code."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


class EndpointProcess:
    """A process of ``modelyard.up_process``.

    ``detached``, it writes to the data directory's log and goes on without us. Else it writes to
    our standard error, and ends in order when we are gone.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        environment: Mapping[str, str],
        data: DataDir,
        *,
        s3: str,
        detached: bool,
    ) -> None:
        self._data = data
        self._stop_seconds = 2 * settings.stop_timeout_seconds + _STOP_SECONDS
        self._log = data.log if detached else None
        self._log_start = _size(data.log)
        command = [sys.executable, "-P", "-m", "modelyard.up_process", f"--s3={s3}"]
        attached = [] if detached else ["--attached"]
        with ExitStack() as stack:
            output = sys.stderr.buffer
            if self._log is not None:
                output = stack.enter_context(data.opened_log())
            self._process = subprocess.Popen(
                [*command, *attached, *_as_options(settings, data)],
                env=environment,
                stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is ours; we then stop it in order
            )

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def until_ready(self) -> Running:
        """What it says about itself when it is ready. Raises DidNotStart."""
        running = self._data.wait_until_running(START_SECONDS, lambda: not self.runs)
        if running is not None:
            return running
        code = self._process.poll()
        if code is None:
            raise DidNotStart(f"the endpoint was not ready after {START_SECONDS:.0f} s", 1)
        raise DidNotStart(self._last_words(), max(code, 1))

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        return self._process.wait()

    def stop(self) -> bool:
        """End it with its instances; False if it had to be killed, and may have left some."""
        if not self.runs:
            return True
        self._process.terminate()
        try:
            self._process.wait(self._stop_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        return True

    def _last_words(self) -> str:
        """Why it ended; what is on the terminal already is not said again."""
        if self._log is None:
            return "the endpoint did not start"
        lines = _lines(self._log, self._log_start)
        reasons = [line.partition(FAILED)[2] for line in lines if FAILED in line]
        return "\n".join(reasons or ["the endpoint did not start:", *lines[-_LOG_LINES:]])


def _as_options(settings: EndpointSettings, data: DataDir) -> Sequence[str]:
    """Settings that are not the defaults, wherever they came from."""
    found = [f"--data-dir={data.path}"]
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name != "data_dir" and value != field.default:
            text = " ".join(value) if isinstance(value, tuple) else str(value)
            found.append(f"{option_name(field)}={text}")
    return found


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _lines(path: Path, start: int) -> list[str]:
    with path.open("rb") as file:
        file.seek(start)
        return file.read().decode("utf-8", "replace").splitlines()
