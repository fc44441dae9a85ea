"""``modelyard check`` on models that work and on models that do not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import joblib
import pytest
from sklearn.linear_model import LogisticRegression

from ..contract.polling import eventually
from ..contract.processes import marked
from .conftest import COMMAND, MODELS, Modelyard, environment


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    path = tmp_path / "body.json"
    path.write_text("[1, 2]")
    return path


def zipped(model: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(model.rglob("*")):
            file.write(path, path.relative_to(model))
    return archive


def lines_of(text: str) -> dict[str, str]:
    """The aligned lines by their names."""
    lines = [line for line in text.splitlines() if line[:1].strip() and len(line) > 15]
    return {line[:15].strip(): line[15:] for line in lines}


def test_it_says_what_it_found_and_how_the_model_answers(
    modelyard: Modelyard, request_file: Path
) -> None:
    done = modelyard("check", MODELS / "echo", "--request", request_file)
    assert (done.returncode, done.stderr) == (0, "")
    lines = lines_of(done.stdout)
    assert lines["framework"] == "python"
    assert lines["interface"] == "sagemaker"
    assert lines["code"] == "code/inference.py: model_fn, input_fn, predict_fn, output_fn"
    assert lines["packages"] == "the server's"
    assert lines["settings"] == "the defaults"
    assert "MiB of memory" in lines["loaded"]
    assert lines["request"] == f"{request_file} (application/json, 6 bytes)"
    assert lines["first answer"].startswith("200 after ")
    assert lines["second answer"].startswith("200 after ")
    assert "[1, 2]" in done.stdout
    assert done.stdout.endswith("\n\nThis model can be served.\n")


def test_a_model_without_code_is_checked_with_its_own_request_and_settings(
    modelyard: Modelyard, tmp_path: Path
) -> None:
    model = tmp_path / "iris"
    model.mkdir()
    joblib.dump(LogisticRegression().fit([[0, 0], [1, 1]], [0, 1]), model / "model.joblib")
    (model / "request.csv").write_text("1,1\n")
    (model / "modelyard.toml").write_text('device = "cpu"\n[environment]\nLEVEL = 3\n')
    done = modelyard("check", model, "--json", MODELYARD_THREADS="2")
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"], report["problem"]) == (0, True, None)
    found = report["found"]
    assert (found["framework"], found["interface"]) == ("sklearn", "default")
    assert (found["artifact"], found["script"]) == ("model.joblib", None)
    assert found["settings"]["device"] == {"value": "cpu", "source": "modelyard.toml"}
    assert found["settings"]["threads"] == {"value": 2, "source": "MODELYARD_THREADS"}
    assert found["settings"]["batch_size"] == {"value": 1, "source": "default"}
    assert found["settings"]["environment"]["value"] == {"LEVEL": "3"}
    assert report["load"]["seconds"] > 0 and report["load"]["private_bytes"] > 0
    assert report["request"] == {"file": "request.csv", "content_type": "text/csv", "bytes": 4}
    assert [answer["status"] for answer in report["answers"]] == [200, 200]
    assert report["answers"][0]["body"].strip() == "[1]"


def test_an_archive_for_multi_model_server_is_checked_as_it_is(
    modelyard: Modelyard, request_file: Path, tmp_path: Path
) -> None:
    archive = zipped(MODELS / "class_handler", tmp_path / "class_handler.mar")
    done = modelyard("check", archive, "--request", request_file)
    assert done.returncode == 0
    assert lines_of(done.stdout)["code"] == "service.py: Service(initialize, handle)"
    archive = tmp_path / "wrapped.tgz"  # everything in one folder, as the model archiver makes it
    with tarfile.open(archive, "w:gz") as file:
        file.add(MODELS / "function_handler", "function_handler")
    done = modelyard("check", archive, "--request", request_file)
    assert done.returncode == 0
    assert lines_of(done.stdout)["code"] == "service.py: answer"


def test_headers_accept_and_content_type_reach_the_model(
    modelyard: Modelyard, request_file: Path
) -> None:
    request_file.write_text('["X-One", "Accept", "Content-Type"]')
    done = modelyard(
        *("check", MODELS / "headers", "--request", request_file, "--json"),
        *("--header", "X-One: 1:2", "--accept", "text/csv"),
        *("--content-type", "application/json; charset=utf-8"),
    )
    seen = json.loads(json.loads(done.stdout)["answers"][0]["body"])
    assert seen == {
        "X-One": "1:2",
        "Accept": "text/csv",
        "Content-Type": "application/json; charset=utf-8",
    }


def test_without_a_request_it_says_how_to_give_one(modelyard: Modelyard) -> None:
    done = modelyard("check", MODELS / "echo")
    assert done.returncode == 0
    assert "--request" in lines_of(done.stdout)["request"]


def test_a_script_for_all_models_is_found_where_the_server_finds_it(
    modelyard: Modelyard, request_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "weights.bin").write_bytes(b"x")
    archive = tmp_path / "sourcedir.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(MODELS / "echo" / "code" / "inference.py", "serve_all.py")
    variables = {"SAGEMAKER_PROGRAM": "serve_all.py", "SAGEMAKER_SUBMIT_DIRECTORY": str(archive)}
    done = modelyard("check", tmp_path / "weights", "--request", request_file, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "serve_all.py: model_fn" in lines_of(done.stdout)["code"]


def test_a_model_with_packages_of_its_own_gets_them(modelyard: Modelyard, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODELS / "echo", model)
    wheels = model / "code" / "wheels"
    wheels.mkdir()
    wheel_of(wheels / "answer_42-1.0-py3-none-any.whl", "answer_42")
    (model / "code" / "requirements.txt").write_text("answer_42==1.0\n")
    script = "import answer_42\ndef model_fn(d): return answer_42.VALUE\n"
    script += "def predict_fn(data, model): return model\n"
    (model / "code" / "inference.py").write_text(script)
    (model / "request.json").write_text("[]")
    done = modelyard("check", model)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = lines_of(done.stdout)
    assert lines["packages"] == "its own, of code/requirements.txt"
    assert "installation of its packages" in lines["loaded"]
    assert "42" in done.stdout.splitlines()[-3]


def wheel_of(path: Path, module: str) -> None:
    """A wheel with one module."""
    about = f"{module}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{module}.py", "VALUE = 42\n")
        wheel.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n"
        )
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


def test_a_load_that_fails_is_told_with_the_models_own_traceback(modelyard: Modelyard) -> None:
    done = modelyard("check", MODELS / "raises_on_load")
    assert done.returncode == 1
    assert 'in model_fn\n      raise ValueError("raised while the model was loaded")' in done.stdout
    verdict = done.stdout.splitlines()[-1]
    assert verdict.startswith("This model cannot be served. Its load failed with 500 ")
    assert verdict.endswith("ValueError: raised while the model was loaded")


def test_a_request_that_fails_is_told_with_the_models_own_traceback(
    modelyard: Modelyard, request_file: Path
) -> None:
    done = modelyard("check", MODELS / "raises_on_predict", "--request", request_file)
    assert done.returncode == 1
    assert "in transform_fn" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("This model loads, but the request failed ")


def test_a_process_that_dies_is_told(modelyard: Modelyard, request_file: Path) -> None:
    done = modelyard("check", MODELS / "os_exits_on_load")
    assert (done.returncode, "cannot be served" in done.stdout) == (1, True)
    done = modelyard("check", MODELS / "segfaults_on_predict", "--request", request_file)
    assert (done.returncode, "SIGSEGV" in done.stdout) == (1, True)


def test_a_directory_with_nothing_to_serve_is_told_without_a_server(
    modelyard: Modelyard, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    done = modelyard("check", tmp_path / "empty")
    assert done.returncode == 1
    assert "Nothing to serve" in done.stdout


def test_a_typo_in_the_settings_is_told(modelyard: Modelyard, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODELS / "echo", model)
    (model / "modelyard.toml").write_text("batchsize = 4\n")
    done = modelyard("check", model, "--json")
    assert done.returncode == 1
    assert "did you mean batch_size?" in json.loads(done.stdout)["problem"]


def test_a_broken_archive_is_told(modelyard: Modelyard, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"no archive")
    done = modelyard("check", tmp_path / "a.tar.gz")
    assert done.returncode == 1
    assert "neither tar.gz, tar nor zip" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["missing"], {}, "no directory or archive missing"),
        ([MODELS / "echo", "--request", "missing"], {}, "missing cannot be read"),
        ([MODELS / "echo"], {"MODELYARD_THREADS": "many"}, "MODELYARD_THREADS='many'"),
        ([], {}, "usage: modelyard check"),
    ],
)
def test_what_cannot_be_tried_ends_with_2(
    modelyard: Modelyard, arguments: list[Any], variables: dict[str, str], words: str
) -> None:
    done = modelyard("check", *arguments, **variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_the_models_directory_is_left_as_it_was(
    modelyard: Modelyard, request_file: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODELS / "shadows_handlers", model, ignore=lambda *_: ["__pycache__"])
    before = sorted(model.rglob("*"))
    assert modelyard("check", model, "--request", request_file).returncode == 0
    assert sorted(model.rglob("*")) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_running_however_it_ends(number: signal.Signals, tmp_path: Path) -> None:
    mark = {"CHECK_RUN": uuid4().hex}
    temporary, model = tmp_path / "temporary", tmp_path / "model"
    temporary.mkdir()
    (model / "code").mkdir(parents=True)
    script = f"def model_fn(d): open({str(tmp_path / 'begun')!r}, 'w'); input()\n"
    script += "import time\ninput = lambda: time.sleep(600)\n"
    (model / "code" / "inference.py").write_text(script)
    with subprocess.Popen(
        [COMMAND, "check", model],
        env=environment(TMPDIR=str(temporary), **mark),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert eventually((tmp_path / "begun").exists)
        os.kill(process.pid, number)
        _, complaints = process.communicate(timeout=100)
    assert b"Traceback" not in complaints
    assert process.returncode in (128 + number, -number)
    assert eventually(lambda: not marked(f"CHECK_RUN={mark['CHECK_RUN']}"))
    if number != signal.SIGKILL:
        assert list(temporary.iterdir()) == []
