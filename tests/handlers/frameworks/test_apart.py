"""Frameworks that have environments of their own: their tests, and models in the real server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from handlers.frameworks import FRAMEWORKS
from tests.contract.server import OwnServer, start, stop_cleanly, wait_until_healthy
from tests.environments import CACHE, ROOT, interpreter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Run by the interpreter of the environment: each writes a model that adds up rows of two numbers.
TRAINING = {
    "mxnet": """
import sys, mxnet as mx
net = mx.gluon.nn.Dense(1, in_units=2, weight_initializer="ones")
net.initialize()
net.hybridize()
net(mx.nd.ones((1, 2)))
net.export(sys.argv[1] + "/model")
""",
    "tensorflow": """
import sys, tensorflow as tf
module = tf.Module()
rows = [tf.TensorSpec([None, 2], tf.float32, name="x")]
module.add = tf.function(lambda x: tf.reduce_sum(x, 1, keepdims=True), input_signature=rows)
tf.saved_model.save(module, sys.argv[1] + "/1", signatures=module.add)
""",
}


def run(*command: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", TRAINING)
def test_its_own_tests_pass_there(name: str) -> None:
    file = Path(__file__).with_name(f"test_{name}.py")
    said = run(interpreter(*FRAMEWORKS[name].PINS), "-m", "pytest", "-q", str(file))
    assert "passed" in said
    assert "skipped" not in said


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnServer]:
    """A server that keeps its environments where these tests do."""
    settings = {
        "SAGEMAKER_MULTI_MODEL": "true",
        "MODELYARD_MODEL_ROOTS": str(tmp_path),
        "MODELYARD_PRELOAD": "python",
        "MODELYARD_ENVIRONMENTS_DIR": str(CACHE),
    }
    own = start(tmp_path, tmp_path / "serve.log", settings)
    try:
        wait_until_healthy(own)
        yield own
        stop_cleanly(own)
    finally:
        own.kill()


def load(client: httpx.Client, name: str, model_dir: Path) -> None:
    answer = client.post("/models", json={"model_name": name, "url": str(model_dir)})
    assert answer.status_code == 200, answer.text


def test_models_of_all_of_them_are_served_side_by_side(server: OwnServer, tmp_path: Path) -> None:
    with httpx.Client(base_url=server.base_url, timeout=300) as client:
        for name, code in TRAINING.items():
            model_dir = tmp_path / name
            model_dir.mkdir()
            run(interpreter(*FRAMEWORKS[name].PINS), "-c", code, str(model_dir))
            load(client, name, model_dir)
        for name in TRAINING:
            answer = client.post(f"/models/{name}/invoke", json={"instances": [[1, 2], [3, 4]]})
            assert answer.status_code == 200, answer.text
            assert answer.json() == {"predictions": [[3.0], [7.0]]}


def test_the_second_model_finds_the_environment_ready(server: OwnServer, tmp_path: Path) -> None:
    code = """
import mxnet as mx
def model_fn(model_dir): return mx.nd.array([10])
def predict_fn(data, model): return data * model
"""
    (tmp_path / "scaled" / "code").mkdir(parents=True)
    (tmp_path / "scaled" / "code" / "inference.py").write_text(code)
    interpreter(*FRAMEWORKS["mxnet"].PINS)
    with httpx.Client(base_url=server.base_url, timeout=300) as client:
        for name in ("first", "second"):
            load(client, name, tmp_path / "scaled")
            answer = client.post(f"/models/{name}/invoke", json=[1, 2])
            assert answer.json() == [10.0, 20.0], answer.text
