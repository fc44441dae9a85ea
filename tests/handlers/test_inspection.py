from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from handlers.errors import ModelLoadError
from handlers.inspection import inspect_model
from handlers.types import HandlerOptions, Interface, ModelPlan

Make = Callable[..., Path]


def manifest(**model: object) -> str:
    return json.dumps({"model": {"modelName": "m", **model}})


def refusal(model_dir: Path, options: HandlerOptions) -> str:
    with pytest.raises(ModelLoadError) as caught:
        inspect_model(model_dir, options)
    assert caught.value.status == 400
    return caught.value.message


def with_handler(options: HandlerOptions, handler: str) -> HandlerOptions:
    return dataclasses.replace(options, handler=handler)


def test_a_script_in_code_makes_a_sagemaker_model(make: Make, options: HandlerOptions) -> None:
    model_dir = make({"code/inference.py": ""})
    assert inspect_model(model_dir, options) == ModelPlan(
        model_dir=str(model_dir),
        framework="python",
        interface=Interface.SAGEMAKER,
        script=str(model_dir / "code/inference.py"),
        code_dirs=(str(model_dir / "code"), str(model_dir)),
    )


def test_the_script_is_looked_for_in_code_then_root_then_the_shared_directory(
    make: Make, options: HandlerOptions
) -> None:
    shared = make({"inference.py": ""}, name="shared")
    model_dir = make({"model.joblib": ""})
    plan = inspect_model(model_dir, options)
    assert plan.script == str(shared / "inference.py")
    assert plan.code_dirs == (str(shared), str(model_dir))
    make({"inference.py": ""})
    assert inspect_model(model_dir, options).script == str(model_dir / "inference.py")
    make({"code/inference.py": ""})
    assert inspect_model(model_dir, options).script == str(model_dir / "code/inference.py")


@pytest.mark.parametrize("program", ["serve.py", "serve"])
def test_the_program_setting_names_the_script(
    make: Make, options: HandlerOptions, program: str
) -> None:
    model_dir = make({"code/serve.py": "", "code/inference.py": ""})
    plan = inspect_model(model_dir, dataclasses.replace(options, program=program))
    assert plan.script == str(model_dir / "code/serve.py")


@pytest.mark.parametrize("file", ["service.py", "code/service.py"])
@pytest.mark.parametrize("spec", ["service:answer", "service.py:answer"])
def test_a_manifest_that_names_a_handler_makes_a_custom_service(
    make: Make, options: HandlerOptions, file: str, spec: str
) -> None:
    model_dir = make({"MAR-INF/MANIFEST.json": manifest(handler=spec), file: ""})
    plan = inspect_model(model_dir, options)
    assert plan.interface is Interface.CUSTOM_SERVICE
    assert plan.handler == "service:answer"
    assert plan.script == str(model_dir / file)
    assert plan.code_dirs[0] == str((model_dir / file).parent)


def test_a_handler_without_a_function_is_called_handle(make: Make, options: HandlerOptions) -> None:
    model_dir = make({"service.py": ""})
    plan = inspect_model(model_dir, with_handler(options, "service"))
    assert plan.handler == "service:handle"


def test_the_handler_setting_takes_an_absolute_path(make: Make, options: HandlerOptions) -> None:
    service = make({"my-service.py": ""}, name="image") / "my-service.py"
    plan = inspect_model(make({}), with_handler(options, f"{service}:go"))
    assert plan.script == str(service)
    assert plan.handler == "my-service:go"
    assert plan.code_dirs[0] == str(service.parent)


def test_a_handler_may_lie_in_a_package_or_be_installed(
    make: Make, options: HandlerOptions
) -> None:
    model_dir = make({"code/pkg/service.py": "", "code/other/__init__.py": ""})
    plan = inspect_model(model_dir, with_handler(options, "pkg.service:go"))
    assert (plan.script, plan.handler) == (str(model_dir / "code/pkg/service.py"), "pkg.service:go")
    plan = inspect_model(model_dir, with_handler(options, "other"))
    assert plan.script == str(model_dir / "code/other/__init__.py")
    plan = inspect_model(model_dir, with_handler(options, "json.tool:main"))
    assert (plan.script, plan.handler) == (None, "json.tool:main")


def test_the_manifest_beats_the_handler_setting_which_beats_the_script(
    make: Make, options: HandlerOptions
) -> None:
    files = {"service.py": "", "own.py": "", "code/inference.py": ""}
    options = with_handler(options, "service:go")
    assert inspect_model(make(files), options).handler == "service:go"
    make({"MAR-INF/MANIFEST.json": manifest(handler="own:go")})
    assert inspect_model(make(files), options).handler == "own:go"


def test_a_manifest_without_a_handler_leaves_the_choice(
    make: Make, options: HandlerOptions
) -> None:
    model_dir = make({"MAR-INF/MANIFEST.json": manifest(), "code/inference.py": ""})
    assert inspect_model(model_dir, options).interface is Interface.SAGEMAKER


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{,}", "not valid JSON"),
        ("[1]", "must be an object"),
        ('{"model": 1}', "must be an object"),
        ('{"model": {"handler": 5}}', '"handler" in .* must be a string'),
    ],
)
def test_a_broken_manifest_is_refused_with_what_to_do(
    make: Make, options: HandlerOptions, text: str, reason: str
) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        inspect_model(make({"MAR-INF/MANIFEST.json": text}), options)


def test_a_missing_handler_file_is_refused_with_where_to_put_it(
    make: Make, options: HandlerOptions
) -> None:
    model_dir = make({"MAR-INF/MANIFEST.json": manifest(handler="gone_service:handle")})
    message = refusal(model_dir, options)
    assert "gone_service.py is neither in" in message and "Put it there" in message
    assert "SAGEMAKER_HANDLER is" in refusal(
        make({}, name="other"), with_handler(options, "/nowhere/x.py")
    )


@pytest.mark.parametrize("handler", [":handle", "__main__:handle", "no-such-module"])
def test_a_handler_that_names_no_module_is_refused(
    make: Make, options: HandlerOptions, handler: str
) -> None:
    assert "correct the name" in refusal(make({}), with_handler(options, handler))


@pytest.mark.parametrize(
    ("file", "framework"),
    [
        ("model.joblib", "sklearn"),
        ("classifier.pkl", "sklearn"),
        ("model.pickle", "sklearn"),
        ("MODEL.PT", "pytorch"),
        ("net.pth", "pytorch"),
        ("model.safetensors", "pytorch"),
    ],
)
def test_without_code_the_artifact_decides(
    make: Make, options: HandlerOptions, file: str, framework: str
) -> None:
    plan = inspect_model(make({file: b"12345"}), options)
    assert (plan.interface, plan.framework) == (Interface.DEFAULT, framework)
    assert (plan.artifact, plan.weight_bytes) == (file, 5)


@pytest.mark.parametrize(
    ("files", "artifact"),
    [
        (["model.pkl", "scaler.joblib"], "model.pkl"),
        (["model.pkl", "model.joblib"], "model.joblib"),
        (["model.pt", "model.safetensors"], "model.safetensors"),
        (["model.pt", "model.joblib"], "model.pt"),
    ],
)
def test_among_several_artifacts_the_one_called_model_is_taken(
    make: Make, options: HandlerOptions, files: list[str], artifact: str
) -> None:
    assert inspect_model(make(dict.fromkeys(files, "")), options).artifact == artifact


def test_several_artifacts_of_which_none_is_called_model_are_refused(
    make: Make, options: HandlerOptions
) -> None:
    message = refusal(make({"a.joblib": "", "b.joblib": ""}), options)
    assert "a.joblib, b.joblib" in message and "model.joblib" in message


def test_the_manifest_may_name_the_artifact_and_the_class_file(
    make: Make, options: HandlerOptions
) -> None:
    named = manifest(serializedFile="b.pt", modelFile="net.py")
    files = {"MAR-INF/MANIFEST.json": named, "a.pt": "", "net.py": ""}
    assert "'b.pt', which is not in the archive" in refusal(make(files), options)
    model_dir = make({"b.pt": ""})
    plan = inspect_model(model_dir, options)
    assert (plan.artifact, plan.script) == ("b.pt", str(model_dir / "net.py"))


def test_a_default_pytorch_model_finds_its_class_file(make: Make, options: HandlerOptions) -> None:
    model_dir = make({"model.pt": "", "model.py": ""})
    assert inspect_model(model_dir, options).script == str(model_dir / "model.py")
    make({"code/model.py": ""})
    assert inspect_model(model_dir, options).script == str(model_dir / "code/model.py")


@pytest.mark.parametrize(
    ("script", "framework"),
    [
        ("import torch", "pytorch"),
        ("def f():\n    from torch.nn import Linear", "pytorch"),
        ("import joblib", "sklearn"),
        ("import sklearn.linear_model as lm", "sklearn"),
        ("import sklearn, torch", "pytorch"),
        ("import numpy", "python"),
        ("import net", "pytorch"),
        ("from . import net", "pytorch"),
        ("import other", "python"),
        ("import torch, (", "python"),
        ("text = 'import torch'; pattern = '\\d'", "python"),
        ("\x00", "python"),
    ],
)
def test_what_the_code_imports_decides_the_framework(
    make: Make, options: HandlerOptions, script: str, framework: str
) -> None:
    files = {"code/inference.py": script, "code/net.py": "import torch", "code/other.py": "1"}
    assert inspect_model(make(files), options).framework == framework


def test_code_that_imports_no_framework_goes_by_the_artifact(
    make: Make, options: HandlerOptions
) -> None:
    plan = inspect_model(make({"code/inference.py": "import pickle", "model.pkl": ""}), options)
    assert (plan.framework, plan.artifact) == ("sklearn", "model.pkl")


def test_code_may_import_one_framework_and_load_an_artifact_of_another(
    make: Make, options: HandlerOptions
) -> None:
    plan = inspect_model(make({"code/inference.py": "import torch", "model.pkl": ""}), options)
    assert (plan.framework, plan.artifact) == ("pytorch", "model.pkl")


def test_modules_that_import_each_other_are_read_once(make: Make, options: HandlerOptions) -> None:
    files = {
        "code/inference.py": "import a",
        "code/a.py": "import b",
        "code/b.py": "import a, torch",
    }
    assert inspect_model(make(files), options).framework == "pytorch"


def test_a_huge_script_is_not_read(make: Make, options: HandlerOptions) -> None:
    script = "import torch\n" + "#" * (1 << 20)
    assert inspect_model(make({"code/inference.py": script}), options).framework == "python"


def test_the_code_is_not_run(make: Make, options: HandlerOptions, tmp_path: Path) -> None:
    inspect_model(make({"code/inference.py": f"open({str(tmp_path / 'ran')!r}, 'w')"}), options)
    assert not (tmp_path / "ran").exists()


def test_an_empty_directory_is_refused_with_what_would_do(
    make: Make, options: HandlerOptions
) -> None:
    message = refusal(make({}), options)
    assert "it is empty" in message
    for wanted in ("code/inference.py", "MAR-INF/MANIFEST.json", ".joblib", ".safetensors"):
        assert wanted in message


def test_a_directory_with_nothing_servable_is_listed(make: Make, options: HandlerOptions) -> None:
    files = {f"file{n:02}.txt": "" for n in range(25)}
    message = refusal(make({**files, "code/train.py": ""}), options)
    assert "code/, file00.txt" in message
    assert "file24" not in message and "and 6 more" in message


def test_an_archive_with_one_extra_folder_is_told_so(make: Make, options: HandlerOptions) -> None:
    message = refusal(make({"export/model.joblib": ""}), options)
    assert "Everything lies under export/: make the archive of what is inside it" in message


def test_a_path_that_is_no_directory_is_refused(options: HandlerOptions, tmp_path: Path) -> None:
    assert "is not a directory" in refusal(tmp_path / "missing", options)


def test_weights_in_the_root_are_counted_and_other_files_are_not(
    make: Make, options: HandlerOptions
) -> None:
    files = {"a.safetensors": b"123", "b.npy": b"12", "readme.md": b"1" * 99, "d/c.pt": b"1" * 99}
    model_dir = make({**files, "code/inference.py": "", "code/x.pt": b"1" * 99})
    assert inspect_model(model_dir, options).weight_bytes == 5


def test_links_that_lead_nowhere_are_passed_over(make: Make, options: HandlerOptions) -> None:
    model_dir = make({"model.joblib": "123"})
    (model_dir / "other.joblib").symlink_to(model_dir / "gone")
    assert inspect_model(model_dir, options).weight_bytes == 3


@pytest.mark.parametrize("place", ["", "1/", "export/Servo/1/"])
def test_all_of_a_saved_model_counts_but_not_what_lies_beside_it(
    make: Make, options: HandlerOptions, place: str
) -> None:
    files = {
        f"{place}saved_model.pb": "12345",
        f"{place}variables/variables.index": "12",
        f"{place}variables/variables.data-00000-of-00001": "123",
        "assets/notes.txt": "1234567",
    }
    assert inspect_model(make(files), options).weight_bytes == 10


def test_a_file_whose_name_is_no_text_is_passed_over(make: Make, options: HandlerOptions) -> None:
    model_dir = make({"model.joblib": b"x"})
    (model_dir / os.fsdecode(b"other\xff.joblib")).write_bytes(b"x")
    assert inspect_model(model_dir, options).artifact == "model.joblib"


@pytest.mark.parametrize("name", ["service.py", "code/service.py"])
def test_a_handler_that_nothing_names_is_pointed_out(
    make: Make, options: HandlerOptions, name: str
) -> None:
    model_dir = make({name: "def handle(data, context): pass\n", "code/data.txt": "x"})
    with pytest.raises(ModelLoadError, match=r"service.py looks like a handler.*=service:handle"):
        inspect_model(model_dir, options)


def test_what_could_be_served_is_listed_with_names_too(make: Make, options: HandlerOptions) -> None:
    with pytest.raises(
        ModelLoadError, match=r"config\.json.*saved_model\.pb.*xgboost-model.*\.sav"
    ):
        inspect_model(make({"README": "x"}), options)
