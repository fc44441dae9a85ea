"""``modelyard up`` and ``modelyard down``, as one would type them into a shell."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from examples.demo.errors import DemoError

# So that the tour need not wait for what happens seldom: models that change or go in the bucket,
# and copies that nobody needs any more.
HASTE = ("--object-check-seconds", "1", "--copy-idle-seconds", "5")

_COMMAND = str(Path(sys.executable).with_name("modelyard"))
_LOG_LINES = 15

# Of this shell and its user, these would lead boto3 elsewhere, or change what the tour shows.
_FOREIGN = ("AWS_", "MODELYARD_", "SAGEMAKER_")
_INSTEAD = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "no_proxy": "127.0.0.1",
}


class Up:
    """An endpoint's process with its S3, on this machine. It goes on without us, until ``down``."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir = data_dir
        self._port = port
        self.exports: dict[str, str] = {}
        for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
            del os.environ[name]
        os.environ |= _INSTEAD

    @property
    def url(self) -> str:
        """Of all APIs but S3's."""
        return self.exports["AWS_ENDPOINT_URL_SAGEMAKER"]

    @property
    def log(self) -> Path:
        """What the endpoint says; instances have logs of their own, beside it."""
        return self.data_dir / "log"

    def start(self) -> None:
        """Return when it is ready, and boto3 here finds it. Raises DemoError."""
        data_dir = ("--data-dir", str(self.data_dir))
        command = [_COMMAND, "up", "--detach", "--port", str(self._port), *data_dir, *HASTE]
        with _interrupts_kept() as kept:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is the demo's
            )
        try:
            if kept:
                raise KeyboardInterrupt
            lines, said = process.communicate()
        except BaseException:
            process.terminate()  # it takes back what it has started
            process.communicate()
            raise
        if process.returncode != 0:
            raise DemoError(said.strip())
        self.exports = dict(_assigned(line) for line in lines.splitlines())
        os.environ |= self.exports

    def stop(self) -> None:
        """End it with all that it has started, also what a killed one left. Raises DemoError."""
        done = subprocess.run(
            [_COMMAND, "down", "--data-dir", str(self.data_dir)],
            capture_output=True,
            text=True,
            start_new_session=True,
        )
        if done.returncode != 0:
            raise DemoError(done.stderr.strip())

    def last_lines(self) -> Sequence[str]:
        """The end of its log."""
        try:
            return self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        except FileNotFoundError:
            return []


def why(instance_url: str, model_id: str) -> str:
    """What an instance tells of a model in its memory: ``modelyard why``."""
    command = [_COMMAND, "why", model_id, "--url", instance_url, "--limit", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout or done.stderr


@contextmanager
def _interrupts_kept() -> Iterator[list[int]]:
    """Signals that came meanwhile, instead of an interruption.

    One that strikes while a process is being started would leave it running, unknown to us.
    """
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _assigned(line: str) -> tuple[str, str]:
    """Name and value of ``export NAME=VALUE``."""
    [word] = shlex.split(line.removeprefix("export "))
    name, _, value = word.partition("=")
    return name, value
