"""The notebooks run from the first cell to the last, as often as one likes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import nbformat
import pytest

from modelyard.data_dir import DataDir
from tests.endpoint.user import processes_of, until
from tests.environments import ROOT, SAGEMAKER_2, SAGEMAKER_3, interpreter
from tests.modelyard.conftest import COMMAND, environment

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
RUN_SECONDS = 600

CHANGES = re.compile(
    r'ROLE = "arn:aws:iam::\d{12}:role/\w+"\nIMAGE = "[\w.:/-]+"',
)


def cells(notebook: Path) -> list[Any]:
    """All of it."""
    found: list[Any] = nbformat.read(notebook, as_version=4).cells
    return found


def printed(notebook: Path) -> str:
    """All that a notebook which has been run shows as text."""
    outputs = [output for cell in cells(notebook) for output in cell.get("outputs", ())]
    return "\n".join(
        str(output.get("text") or output.get("data", {}).get("text/plain", ""))
        for output in outputs
    )


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_changes_for_aws_is_one_cell_of_two_lines(notebook: Path) -> None:
    nbformat.validate(nbformat.read(notebook, as_version=4))
    title, words, changes, *_ = cells(notebook)
    assert title.source.startswith("# ")
    assert 'eval "$(modelyard up --detach)"' in title.source
    assert words.source.startswith("## The two lines that change for AWS\n")
    assert CHANGES.fullmatch(changes.source)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(notebook: Path) -> None:
    for cell in cells(notebook):
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


def test_each_has_its_row_in_the_readme() -> None:
    rows = re.findall(r"^\| \[\w+\]\((\w+\.ipynb)\)", (FOLDER / "README.md").read_text(), re.M)
    assert rows == [notebook.name for notebook in NOTEBOOKS]


# --- run ----------------------------------------------------------------------------------------

Variables = dict[str, str]
Run = Callable[[str, str], str]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Variables]:
    """The variables of a shell that has evaluated what ``modelyard up`` prints."""
    folder = tmp_path_factory.mktemp("endpoint")
    plain = {name: value for name, value in environment().items() if not name.startswith("AWS_E")}
    up = subprocess.run(
        [COMMAND, "up", "--detach", "--port", "0", "--data-dir", folder / "data"],
        env=plain,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=RUN_SECONDS,
    )
    try:
        yield {**plain, **dict(re.findall(r"^export (\w+)=(.*)$", up.stdout, re.MULTILINE))}
    finally:
        if DataDir(str(folder / "data")).is_ours:
            down: list[str | Path] = [COMMAND, "down", "--data-dir", folder / "data"]
            subprocess.run(down, check=True, timeout=RUN_SECONDS)
        until(lambda: processes_of(folder) == [])


@pytest.fixture
def run(shell: Variables, tmp_path: Path) -> Run:
    """Runs a notebook by an interpreter, twice; what it printed the second time."""

    def run(name: str, python: str) -> str:
        output = tmp_path / name
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "notebooks.execute",
            FOLDER / name,
            output,
        ]
        for _ in range(2):
            done = subprocess.run(
                [*command, "--python", python],
                cwd=ROOT,
                env={**shell, "HOME": str(tmp_path)},
                capture_output=True,
                text=True,
                check=False,
                timeout=RUN_SECONDS,
            )
            assert done.returncode == 0, done.stderr[-3000:]
        until(lambda: processes_of(tmp_path) == [])
        return printed(output)

    return run


def left(shell: Variables) -> list[str]:
    """Names of all that there is at the endpoint and in its buckets."""
    keys = {
        "aws_access_key_id": shell["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": shell["AWS_SECRET_ACCESS_KEY"],
        "region_name": shell["AWS_DEFAULT_REGION"],
    }
    url = shell["AWS_ENDPOINT_URL_SAGEMAKER"]
    sagemaker = boto3.client("sagemaker", endpoint_url=url, **keys)
    s3 = boto3.client("s3", endpoint_url=shell["AWS_ENDPOINT_URL_S3"], **keys)
    buckets = [one["Name"] for one in s3.list_buckets()["Buckets"]]
    found = [
        *(one["EndpointName"] for one in sagemaker.list_endpoints()["Endpoints"]),
        *(
            one["EndpointConfigName"]
            for one in sagemaker.list_endpoint_configs()["EndpointConfigs"]
        ),
        *(one["ModelName"] for one in sagemaker.list_models()["Models"]),
        *(
            one["Key"]
            for bucket in buckets
            for one in s3.list_objects_v2(Bucket=bucket).get("Contents", ())
        ),
    ]
    for client in (sagemaker, s3):
        client.close()
    return found


@pytest.mark.slow
@pytest.mark.timeout(2 * RUN_SECONDS)
def test_boto3(shell: Variables, run: Run) -> None:
    text = run("endpoint_with_boto3.ipynb", sys.executable)
    assert text.count('iris.tar.gz: ["setosa"]') == 2
    assert 'wine.tar.gz: ["class_0"]' in text
    assert 'iris-2.tar.gz: ["virginica"]' in text
    assert re.search(r"iris\.tar\.gz: .* waited 0 µs", text)
    assert re.search(r"Sum of Invocations \[\d", text)
    assert left(shell) == []


@pytest.mark.slow
@pytest.mark.timeout(3 * RUN_SECONDS)  # with building the environment
@pytest.mark.parametrize(
    ("name", "pins"),
    [
        ("multi_data_model_with_sagemaker_2.ipynb", SAGEMAKER_2),
        ("resources_with_sagemaker_3.ipynb", SAGEMAKER_3),
    ],
)
def test_sagemaker(shell: Variables, run: Run, name: str, pins: tuple[str, ...]) -> None:
    text = run(name, interpreter(*pins))
    assert "berlin {'total': 10.9}" in text
    assert "lisbon {'total': 7.6}" in text
    assert left(shell) == []


@pytest.mark.slow
@pytest.mark.timeout(RUN_SECONDS)
def test_a_cell_that_fails_is_told(tmp_path: Path) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0", id="one")])
    nbformat.write(book, tmp_path / "fails.ipynb")
    done = subprocess.run(
        [*(sys.executable, "-m", "notebooks.execute"), tmp_path / "fails.ipynb", tmp_path / "out"],
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    until(lambda: processes_of(tmp_path) == [])
