from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from handlers.errors import HandlerError, ModelLoadError
from handlers.types import Request, Service

Make = Callable[..., Path]
Load = Callable[..., Service]
Ask = Callable[..., Request]

# A worker's order of things: import, hide our packages, load.
HIDDEN = """
import sys
from pathlib import Path
from handlers.errors import HandlerError
from handlers.inspection import inspect_model
from handlers.service import load_service
from handlers.types import HandlerOptions, Request, Headers

plan = inspect_model(Path(sys.argv[1]), HandlerOptions())
for name in [name for name in sys.modules if name.partition(".")[0] == "handlers"]:
    del sys.modules[name]
service = load_service(plan, model_name="m", options=HandlerOptions())
try:
    print(service.invoke(Request(b"[1]", Headers((("Content-Type", sys.argv[2]),)))).body.decode())
except HandlerError as error:
    print(error.status, error.kind, error.message)
"""


def in_a_worker(model_dir: Path, content_type: str = "application/json") -> str:
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN, str(model_dir), content_type],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def script(text: str) -> dict[str, str]:
    return {"code/inference.py": text}


@pytest.mark.parametrize("function", ["pre_model_fn", "model_fn", "model_warmup_fn"])
def test_an_exception_at_load_fails_it_with_its_type_and_text(load: Load, function: str) -> None:
    arguments = "model_dir, model" if function == "model_warmup_fn" else "model_dir"
    text = (
        f"def model_fn(model_dir): pass\ndef {function}({arguments}): raise KeyError('weights')\n"
    )
    with pytest.raises(ModelLoadError, match="KeyError: 'weights'") as caught:
        load(script(text))
    assert caught.value.status == 500
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_script_that_cannot_be_imported_fails_the_load(load: Load) -> None:
    with pytest.raises(ModelLoadError, match=r"SyntaxError: .*inference\.py, line 1"):
        load(script("def model_fn(:"))
    with pytest.raises(ModelLoadError, match="No module named 'missing_helper'"):
        load(script("import missing_helper"))


def test_lack_of_memory_at_load_is_507(load: Load) -> None:
    with pytest.raises(ModelLoadError) as caught:
        load(script("def model_fn(model_dir): raise MemoryError('no room')"))
    assert (caught.value.status, caught.value.message) == (507, "MemoryError: no room")


@pytest.mark.parametrize("function", ["input_fn(a, b", "predict_fn(a, b", "output_fn(a, b"])
def test_an_exception_at_prediction_has_type_text_and_cause(
    load: Load, ask: Ask, function: str
) -> None:
    text = f"def model_fn(model_dir): return len\ndef {function}): raise ValueError('bad')\n"
    with pytest.raises(HandlerError) as caught:
        load(script(text)).invoke(ask("[1]"))
    assert (caught.value.kind, caught.value.status) == ("PredictionException", 500)
    assert caught.value.message == "ValueError: bad"
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_request_that_failed_leaves_the_model_able(load: Load, ask: Ask) -> None:
    text = "def model_fn(d): return 0\ndef predict_fn(data, model): return 1 // data[0]\n"
    service = load(script(text))
    with pytest.raises(HandlerError):
        service.invoke(ask('["a"]'))
    assert service.invoke(ask("[1]")).body == b"1"


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_process_passes_through(
    load: Load, ask: Ask, raised: type[BaseException]
) -> None:
    with pytest.raises(raised):
        load(script(f"def model_fn(d): raise {raised.__name__}"))
    service = load(
        script(f"def model_fn(d): pass\ndef predict_fn(a, b): raise {raised.__name__}\n")
    )
    with pytest.raises(raised):
        service.invoke(ask("[1]"))


def test_the_script_is_a_module_of_its_own_name_with_its_siblings(load: Load, ask: Ask) -> None:
    files = {
        "code/inference.py": "import helper_of_test\nclass Model: pass\n"
        "def model_fn(d): return helper_of_test.make()\n"
        "def predict_fn(data, model): return [type(model) is Model, __name__, len(data)]\n",
        "code/helper_of_test.py": "def make():\n"
        "    import inference\n    return inference.Model()\n",
    }
    assert load(files).invoke(ask("[1]")).body == b'[true, "inference", 1]'


def test_a_second_model_gets_its_own_script(load: Load, ask: Ask) -> None:
    text = "def model_fn(d): return 0\ndef transform_fn(a, b, c, d): return '{}'\n"
    assert load(script(text.format("one"))).invoke(ask("")).body == b"one"
    assert load(script(text.format("second"))).invoke(ask("")).body == b"second"


PREDICT = "def predict_fn(data, model): return model.predict(data)\n"


def test_a_class_saved_from_main_is_found_in_the_script_else_comes_with_advice(
    load: Load, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    class Model:
        pass

    Model.__module__, Model.__qualname__ = "__main__", "Model"
    main: Any = sys.modules["__main__"]
    main.Model = Model
    try:
        saved = pickle.dumps(Model())
    finally:
        del main.Model
    with pytest.raises(ModelLoadError, match="move it to a module of its own"):
        load({"model.pkl": saved})
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # which it writes to
    script = "class Model:\n    def predict(self, data): return 7\n"
    service = load({"model.pkl": saved, "code/inference.py": script + PREDICT})
    assert service.invoke(ask("1")).body == b"7"


def test_our_packages_may_be_hidden_from_the_models_code(make: Make) -> None:
    model_dir = make(
        {
            "code/inference.py": "import handlers\ndef model_fn(d): return handlers.OWNER\n"
            "def predict_fn(data, model): return [model, data.tolist()]\n",
            "code/handlers.py": "OWNER = 'mine'",
        }
    )
    assert in_a_worker(model_dir) == '["mine", [1]]'
    assert in_a_worker(model_dir, "image/png").startswith("415 UnsupportedMediaTypeException")


def test_a_models_code_may_import_ours_again_and_raise_our_errors(make: Make) -> None:
    model_dir = make(
        {
            "code/inference.py": "from handlers.errors import InvalidInput\ndef model_fn(d): pass\n"
            "def predict_fn(data, model): raise InvalidInput('too short')\n",
        }
    )
    assert in_a_worker(model_dir) == "400 PredictionException too short"


def test_every_interface_works_after_hiding(make: Make, tmp_path: Path) -> None:
    import joblib
    import torch
    from sklearn.tree import DecisionTreeClassifier

    joblib.dump(DecisionTreeClassifier().fit([[0], [1]], [0, 1]), tmp_path / "a")
    tree = {"model.joblib": (tmp_path / "a").read_bytes()}
    torch.save({"weight": torch.ones(1, 1), "bias": torch.zeros(1)}, tmp_path / "b")
    net = (
        "import torch\nclass Net(torch.nn.Linear):\n  def __init__(self): super().__init__(1, 1)\n"
    )
    linear = {"model.pt": (tmp_path / "b").read_bytes(), "model.py": net}
    custom = {
        "MAR-INF/MANIFEST.json": '{"model": {"handler": "service"}}',
        "service.py": "def handle(data, context): return [data and data[0]['body'].decode()]",
    }
    assert in_a_worker(make(linear, name="linear")) == "[1.0]"
    assert in_a_worker(make(custom, name="custom")) == "[1]"
    assert "400 BadRequestException The body is one list" in in_a_worker(make(tree, name="tree"))


def test_the_models_own_environment_is_set_before_its_code_is_imported(
    load: Load, ask: Ask
) -> None:
    files = {
        "modelyard.toml": '[environment]\nTOKEN_OF_TEST = "abc"\n',
        "code/inference.py": "import os\nSEEN = os.environ['TOKEN_OF_TEST']\n"
        "def model_fn(d): pass\n"
        "def predict_fn(data, model): return [SEEN, os.environ['SAGEMAKER_PROGRAM']]\n",
    }
    assert load(files).invoke(ask("[1]")).body == b'["abc", "inference.py"]'
