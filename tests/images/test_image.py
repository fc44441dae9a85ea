"""What an image is, before it runs: labels, contents, size, layers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.images.build import build, copy_of_source
from tests.images.conftest import Runs
from tests.podman import ROOT, Podman

Inspect = Callable[[str], dict[str, Any]]

MB = 1000 * 1000
# Of Debian's with Python, which is our base here and the hub's.
LIMIT, LIMIT_WITH_SKLEARN = 250 * MB, 450 * MB


def layers(found: dict[str, Any]) -> list[str]:
    digests: list[str] = found["RootFS"]["Layers"]
    return digests


def test_it_says_what_it_is(image: str, inspect: Inspect) -> None:
    found = inspect(image)
    labels = found["Labels"]
    for name in ("multi-models", "accept-bind-to-port"):
        assert labels[f"com.amazonaws.sagemaker.capabilities.{name}"] == "true"
    ours = {name: value for name, value in labels.items() if name.startswith("org.opencontainers")}
    assert all(ours.values()), ours
    assert ours["org.opencontainers.image.title"] == "Modelyard"
    assert re.fullmatch(r"\d{4}(-\d\d){2}T.*Z", ours["org.opencontainers.image.created"])
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version and ours["org.opencontainers.image.version"] == version[1]
    assert found["Config"]["Entrypoint"][-1] == "modelyard"
    assert found["Config"]["Cmd"] == ["serve"]
    assert found["Config"]["StopSignal"] in ("SIGTERM", "15")


def test_it_is_small(image: str, sklearn_image: str, inspect: Inspect) -> None:
    assert inspect(image)["Size"] <= LIMIT
    assert inspect(sklearn_image)["Size"] <= LIMIT_WITH_SKLEARN


def test_it_lists_what_is_in_it(engine: Podman, sklearn_image: str) -> None:
    show = ("--rm", "--entrypoint", "cat", sklearn_image, "/opt/modelyard/sbom.cdx.json")
    bill = json.loads(engine.run("run", *show))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "modelyard"
    listed = {part["name"].lower(): part["version"] for part in bill["components"]}
    code = (
        "import importlib.metadata as m\n"
        "print(*(f'{found.name}=={found.version}' for found in m.distributions()))"
    )
    run = ("--rm", "--entrypoint", "python", sklearn_image, "-c", code)
    there = dict(line.split("==") for line in engine.run("run", *run).lower().split())
    assert {"gunicorn", "scikit-learn"} <= listed.keys()
    assert {name: listed.get(name) for name in there if name != "modelyard"} == {
        name: version for name, version in there.items() if name != "modelyard"
    }


def test_nothing_of_the_build_stays_in_it(engine: Podman, image: str) -> None:
    places = "/opt /root /home /tmp /run /var/cache"
    paths = engine.run("run", "--rm", "--entrypoint", "find", image, *places.split()).split()
    assert "/opt/modelyard/code/modelyard/start.py" in paths
    assert not [
        path for path in paths if path.startswith(("/opt/tools", "/opt/source", "/opt/image"))
    ]
    assert not [path for path in paths if "/tests/" in path and path.startswith("/opt/modelyard")]
    assert not [path for path in paths if path.endswith((".whl", ".lock", "/ca", "pip.conf"))]


def test_a_change_of_the_code_makes_only_the_last_layer_again(
    engine: Podman, image: str, inspect: Inspect, tmp_path: Path
) -> None:
    source = copy_of_source(tmp_path / "source")
    with (source / "modelyard" / "why.py").open("a") as file:
        file.write("# changed\n")
    said = build(engine, "localhost/modelyard:changed", source=source)
    assert "Collecting" not in said, "pip was run for packages"
    before, after = layers(inspect(image)), layers(inspect("localhost/modelyard:changed"))
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]


def test_an_unknown_extra_is_told_with_those_that_there_are(engine: Podman) -> None:
    with pytest.raises(AssertionError, match=r"no extra 'sclearn'; there are .*sklearn"):
        build(engine, "localhost/modelyard:none", "--extras", "sclearn")


def test_the_files_for_cpu_and_gpu_differ_in_their_heads_only() -> None:
    heads, stages = [], []
    for name in ("cpu", "gpu"):
        head, mark, rest = (ROOT / f"Dockerfile.{name}").read_text().partition("# From here on")
        assert mark
        heads.append(re.findall(r"^ARG (\w+)", head, re.MULTILINE))
        stages.append(rest)
    assert stages[0] == stages[1]
    assert heads[0] == heads[1]


def test_the_file_for_gpu_makes_an_image_that_serves(engine: Podman, runs: Runs) -> None:
    """On Debian: its own base, with CUDA's library, is on a hub."""
    tag = "localhost/modelyard:test-gpu"
    build(engine, tag, device="gpu")
    container = runs(tag)
    assert container.is_healthy(), container.log()
    assert container.python("import pynvml; print(pynvml.__name__)") == "pynvml"
    assert container.stop() == 0
