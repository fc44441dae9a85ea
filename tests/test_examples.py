"""Each example as its user sees it: train, pack, extract, load into a real server, ask."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.archives import EXAMPLES, ROOT, SampleRequest, extract
from handlers.frameworks import FRAMEWORKS
from tests.contract.server import OwnServer, start, stop_cleanly, wait_until_healthy
from tests.environments import CACHE, interpreter

LOAD_SECONDS = 50.0

# Answers differ in the last digits from one version of a library to the next.
RELATIVE, ABSOLUTE = 0.02, 0.03


def pins_of(example: str) -> tuple[str, ...]:
    """What its framework, by which its name ends, needs beyond what is installed here."""
    framework = FRAMEWORKS.get(example.rpartition("_")[2])
    return () if framework is None or framework.installed() else framework.PINS


def marked(example: str) -> Any:
    """The example, slow and with time to build its environment if it needs one of its own."""
    apart = (pytest.mark.slow, pytest.mark.timeout(900)) if pins_of(example) else ()
    return pytest.param(example, marks=apart)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """A server for all examples, which starts frameworks as they are asked for."""
    models = tmp_path_factory.mktemp("models")
    settings = {
        "SAGEMAKER_MULTI_MODEL": "true",
        "MODELYARD_MODEL_ROOTS": str(models),
        "MODELYARD_PRELOAD": "none",
        "MODELYARD_ENVIRONMENTS_DIR": str(CACHE),
    }
    own = start(models, tmp_path_factory.mktemp("logs") / "serve.log", settings)
    try:
        wait_until_healthy(own)
        yield own
        stop_cleanly(own)
    finally:
        own.kill()


def packed(example: str, folder: Path) -> Path:
    """The example's archive, made by the command that its README names."""
    archive = folder / "model.tar.gz"
    pins = pins_of(example)
    python = interpreter(*pins) if pins else sys.executable
    command = [python, "-m", "examples.archives", example, str(archive)]
    done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return archive


def same(value: Any, expected: Any) -> bool:
    """Whether two JSON values are the same but for the last digits of numbers."""
    if isinstance(expected, dict):
        return value.keys() == expected.keys() and all(same(value[k], expected[k]) for k in value)
    if isinstance(expected, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(expected, int | float):
        return bool(value == pytest.approx(expected, rel=RELATIVE, abs=ABSOLUTE))
    return bool(value == expected)


@pytest.mark.parametrize("example", [marked(example) for example in EXAMPLES])
def test_an_example_answers_as_it_says(example: str, server: OwnServer, tmp_path: Path) -> None:
    model_dir = extract(packed(example, tmp_path), server.models_dir, example)
    request = SampleRequest.of(example)
    with httpx.Client(base_url=server.base_url, timeout=LOAD_SECONDS) as client:
        loaded = client.post("/models", json={"model_name": example, "url": str(model_dir)})
        assert loaded.status_code == 200, f"{loaded.text}\n{server.log_tail()}"
        answer = client.post(
            f"/models/{example}/invoke",
            content=request.path.read_bytes(),
            headers={"Content-Type": request.content_type},
        )
        assert answer.status_code == 200, answer.text
        assert client.delete(f"/models/{example}").status_code == 200
    expected = json.loads((ROOT / example / "answer.json").read_text())
    assert same(answer.json(), expected), answer.text


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_readme_knows_each_example(example: str) -> None:
    assert f"({example}/)" in (ROOT / "README.md").read_text()


@pytest.mark.skipif(not pins_of("circle_mxnet"), reason="MXNet is installed")
def test_an_example_that_cannot_be_trained_here_says_how(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.archives", "circle_mxnet", str(tmp_path / "m")]
    done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("circle_mxnet needs mxnet")
    assert "pip install -r examples/circle_mxnet/requirements.txt" in done.stderr
    assert "Traceback" not in done.stderr
