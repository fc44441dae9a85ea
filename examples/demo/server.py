"""Starts the server as a process of its own, and makes sure that it ends with the demo."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from examples.demo.client import Client

START_SECONDS = 60.0
STOP_SECONDS = 30.0  # what SageMaker allows a container, too
LOG_LINES = 15

# Frameworks the examples use. With "auto" the server would also warm up PyTorch where it is found.
FRAMEWORKS = ("python", "sklearn")


# Little, so that the demo can show what happens when models need more.
MEMORY_LIMIT_BYTES = 400 << 20


class DemoError(Exception):
    """Raised when the demo cannot go on; the text is for the user."""


def free_port(wanted: int) -> int:
    """``wanted`` if nobody listens there; any free port for 0. Raises DemoError."""
    try:
        with socket.create_server(("127.0.0.1", wanted)) as probe:
            port: int = probe.getsockname()[1]
            return port
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "too large"
        raise DemoError(
            f"port {wanted} cannot be used: {reason}; without --port any free one is taken"
        ) from error


class Server:
    """A running ``serve``. It is gone when the ``with`` block ends, however that ends."""

    def __init__(self, models: Path, port: int, log: Path) -> None:
        self.port = port
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [Path(sys.executable).with_name("serve")],
                env=_environment(models, port),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is the demo's; it then stops the server in order
            )

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self.stop()

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative if a signal killed it."""
        return self._process.poll()

    def exit_code_soon(self) -> int | None:
        """The same, for when it seems to be going: a connection breaks before its process ends."""
        try:
            return self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return None

    def wait_until_warm(self, client: Client) -> None:
        """Return when it answers and has imported the frameworks. Raises DemoError.

        One can load at once: a load that comes early waits. But it would be slower than later ones.
        """
        deadline = time.monotonic() + START_SECONDS
        while not (client.is_healthy() and _is_warm(client.metrics())):
            if self.exit_code is not None:
                raise DemoError("the server did not start")
            if time.monotonic() > deadline:
                raise DemoError(f"the server was not ready after {START_SECONDS:.0f} seconds")
            time.sleep(0.05)

    def wait(self) -> None:
        """Return when the server ends by itself, which it only does when something is wrong."""
        self._process.wait()

    def stop(self) -> int:
        """Stop it as SageMaker does, with SIGTERM, and return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise DemoError(
                f"the server did not stop within {STOP_SECONDS:.0f} seconds and was killed; "
                f"its log is {self.log}"
            ) from None
        finally:
            if self._process.poll() is None:  # too slow, or Ctrl-C a second time
                self._process.kill()
                self._process.wait()

    def last_lines(self) -> list[str]:
        """The end of its log."""
        return self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]


def _environment(models: Path, port: int) -> dict[str, str]:
    """Ours without any settings in it, and with these; SageMaker sets the first two."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SAGEMAKER_", "MODELYARD_"))
    }
    settings = {
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "MODELYARD_HOST": "127.0.0.1",
        "MODELYARD_MODEL_ROOTS": str(models),
        "MODELYARD_PRELOAD": ",".join(FRAMEWORKS),
        "MODELYARD_MEMORY_LIMIT_BYTES": str(MEMORY_LIMIT_BYTES),
        "MODELYARD_LEARNED_SIZES_FILE": "",  # of this server alone
    }
    return {**inherited, **settings}


def _is_warm(metrics: str) -> bool:
    """Does the server report the memory of a warm process for each framework?"""
    sizes = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line[:1] != "#")
    names = [f'modelyard_zygote_bytes{{framework="{name}"}}' for name in FRAMEWORKS]
    return all(float(sizes.get(name, 0)) > 0 for name in names)
