"""The stub container does what tests order; what a client makes of it is tested with the client."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import httpx

from tests.endpoint.containers.running import COMMAND, Stub, at, environment, started


def load(stub: Stub, name: str, directory: Path) -> int:
    body = {"model_name": name, "url": str(directory)}
    return httpx.post(f"{stub.url}/models", json=body).status_code


def listed(stub: Stub) -> list[str]:
    models = httpx.get(f"{stub.url}/models").json()["models"]
    return [entry["modelName"] for entry in models]


def test_a_model_that_does_not_fit_is_507_until_another_goes(tmp_path: Path) -> None:
    with started(room=1) as stub:
        assert load(stub, "a", tmp_path) == 200
        assert load(stub, "b", tmp_path) == 507
        assert httpx.delete(f"{stub.url}/models/a").status_code == 200
        assert load(stub, "b", tmp_path) == 200
        assert stub.loaded() == ["b"]


def test_a_model_without_a_directory_is_400(tmp_path: Path) -> None:
    with started() as stub:
        assert load(stub, "a", tmp_path / "none") == 400
        assert stub.loaded() == []


def test_its_list_lies_when_it_is_told_to(tmp_path: Path) -> None:
    with started() as stub:
        load(stub, "a", tmp_path)
        stub.set(hidden=["a"], phantoms=["b"])
        assert listed(stub) == ["b"]
        stub.set(hidden=[], phantoms=[])
        assert listed(stub) == ["a"]


def test_a_forgotten_model_is_404(tmp_path: Path) -> None:
    with started() as stub:
        load(stub, "a", tmp_path)
        stub.forget("a")
        assert httpx.post(f"{stub.url}/models/a/invoke").status_code == 404
        load(stub, "a", tmp_path)
        stub.rule("invoke", "forget", times=1)
        assert httpx.post(f"{stub.url}/models/a/invoke").status_code == 404
        assert stub.loaded() == []


def test_rules_are_for_their_model_and_for_so_many_times() -> None:
    with started(rules=[{"on": "invoke", "do": "answer", "model": "a", "times": 1}]) as stub:
        codes = [httpx.post(f"{stub.url}/models/{name}/invoke").status_code for name in "baa"]
        assert codes == [404, 200, 404]


def test_it_runs_as_a_local_fleet_would_start_it() -> None:
    variables = {"SAGEMAKER_BIND_TO_PORT": "0", **environment(room=0, phantoms=["m"])}
    with subprocess.Popen(
        shlex.split(COMMAND),
        cwd="/",
        env=os.environ | variables | {"SAGEMAKER_MULTI_MODEL": "true"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        stub = at(f"http://127.0.0.1:{process.stdout.readline().strip()}")
        assert listed(stub) == ["m"]
        assert load(stub, "a", Path("/")) == 507
        process.terminate()
        assert process.wait() == 0
