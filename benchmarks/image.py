"""The image: how large, how soon a container of it answers, how soon a change is in it.

Needs Docker or Podman (CONTAINER_ENGINE as for scripts/image) and the base (BASE_IMAGE, else that
of the Dockerfile). Containers share this machine's network: no proxy of the engine is in the way.
"""

from __future__ import annotations

import http.client
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench import Bench, seconds
from benchmarks.results import OURS
from benchmarks.servers import ROOT, BenchmarkError, free_port

PLAIN, SKLEARN, CHANGED = (
    f"localhost/modelyard-bench:{tag}" for tag in ("plain", "sklearn", "changed")
)
MB = 1_000_000
STARTS = 10
WAIT_SECONDS = 60.0
BUILD_SECONDS = 900.0
BUILT = ("archives", "container", "endpoint", "handlers", "model_server", "modelyard", "scripts")
FILES = ("Dockerfile.cpu", ".dockerignore", "LICENSE", "README.md", "pyproject.toml")


def image(bench: Bench) -> None:
    """Built once, started again and again; beside it a container that only runs Python."""
    engine = _engine()
    _build(engine, ROOT, PLAIN)
    bench.results.record("image-size", OURS, [_size(engine, PLAIN)])
    _build(engine, ROOT, SKLEARN, "--extras", "sklearn")
    bench.results.record("image-sklearn-size", OURS, [_size(engine, SKLEARN)])
    bare, started = [], []
    for _ in range(bench.rounds(STARTS)):
        bare.append(seconds(_run, [*engine, *_python(PLAIN)]))
        started.append(_start(engine, PLAIN))
    bench.results.record("image-bare", OURS, bare)
    bench.results.record("image-start", OURS, started)
    source = _changed(bench.directory / "source")
    bench.results.record("image-rebuild", OURS, [seconds(_build, engine, source, CHANGED)])


def _engine() -> list[str]:
    named = shlex.split(os.environ.get("CONTAINER_ENGINE", ""))
    found = named or [name for name in ("docker", "podman") if shutil.which(name)][:1]
    if not found:
        raise BenchmarkError("needs Docker or Podman")
    return found


def _build(engine: Sequence[str], source: Path, tag: str, *options: str) -> None:
    base = os.environ.get("BASE_IMAGE", "")
    command = [str(source / "scripts" / "image"), "cpu", "--tag", tag, "--network", "host"]
    command += ["--base", base, "--pull=never"] if base else []
    environment = {**os.environ, "CONTAINER_ENGINE": shlex.join(engine)}
    _run([*command, *options], environment, BUILD_SECONDS)


def _run(
    command: Sequence[str],
    environment: dict[str, str] | None = None,
    within_seconds: float = WAIT_SECONDS,
) -> str:
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=within_seconds,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"{shlex.join(command)}: {(done.stderr or done.stdout)[-500:]}")
    return done.stdout


def _size(engine: Sequence[str], tag: str) -> float:
    return int(_run([*engine, "image", "inspect", "--format", "{{.Size}}", tag])) / MB


def _python(tag: str) -> tuple[str, ...]:
    host = ("--rm", "--network", "host", "--entrypoint", "python")
    return ("run", *host, tag, "-c", "pass")


def _start(engine: Sequence[str], tag: str) -> float:
    """From the command to the first 200 from /ping, in s."""
    port = free_port()
    begin = time.perf_counter()
    with _container(engine, tag, port):
        while not _is_healthy(port):
            if time.perf_counter() - begin > WAIT_SECONDS:
                raise BenchmarkError("the container does not answer")
            time.sleep(0.005)
        return time.perf_counter() - begin


@contextmanager
def _container(engine: Sequence[str], tag: str, port: int) -> Iterator[None]:
    variables = {
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "MODELYARD_HOST": "127.0.0.1",
    }
    flags = [part for pair in variables.items() for part in ("--env", "=".join(pair))]
    run = ("run", "--detach", "--network", "host", *flags, tag, "serve")
    name = _run([*engine, *run]).strip()
    try:
        yield
    finally:
        _run([*engine, "rm", "--force", name])


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _changed(directory: Path) -> Path:
    """What a build reads, with a line of code that is new."""
    directory.mkdir()
    for name in BUILT:
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*FILES, "constraints.txt"):
        shutil.copy2(ROOT / name, directory / name)
    with (directory / "modelyard" / "why.py").open("a") as file:
        file.write(f"# {time.time()}\n")
    return directory
