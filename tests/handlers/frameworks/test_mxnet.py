"""Run by the interpreter of MXNet's environment: see test_apart.py."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handlers.directory.artifacts import Contents
from handlers.errors import HandlerError, ModelLoadError
from handlers.frameworks import for_artifact, mxnet
from handlers.inspection import inspect_model
from handlers.service import load_service
from handlers.types import HandlerOptions, Request, Resources, Service

Ask = Callable[..., Request]
Serve = Callable[..., Service]

needs_mxnet = pytest.mark.skipif(not mxnet.installed(), reason="runs in MXNet's environment")


@pytest.fixture
def serve(options: HandlerOptions) -> Serve:
    """Loads a directory."""

    def load(model_dir: Path) -> Service:
        plan = inspect_model(model_dir, options)
        return load_service(plan, model_name="m", options=options)

    return load


@pytest.fixture
def mx() -> Any:
    return mxnet._mxnet()


def export_sum(mx: Any, model_dir: Path, inputs: int = 2) -> Path:
    """A gluon block that adds up the numbers of a row, as HybridBlock.export writes it."""
    net = mx.gluon.nn.Dense(1, in_units=inputs, weight_initializer="ones")
    net.initialize()
    net.hybridize()
    net(mx.nd.ones((1, inputs)))
    net.export(str(model_dir / "model"))
    return model_dir


def save_checkpoint(mx: Any, model_dir: Path, *epochs: int) -> Path:
    """A classifier with the label that training needs, as Module.save_checkpoint writes it."""
    data = mx.sym.Variable("data")
    hidden = mx.sym.BatchNorm(mx.sym.FullyConnected(data, num_hidden=4, name="hidden"))
    dense = mx.sym.FullyConnected(hidden, num_hidden=3, name="dense")
    module = mx.mod.Module(mx.sym.SoftmaxOutput(dense, name="softmax"))
    module.bind([("data", (2, 6))], [("softmax_label", (2,))])
    module.init_params()
    for epoch in epochs:
        module.save_checkpoint(str(model_dir / "net"), epoch)
    return model_dir


def write_shapes(model_dir: Path, value: Any) -> None:
    (model_dir / "model-shapes.json").write_text(json.dumps(value))


@needs_mxnet
def test_what_gluon_exports_needs_no_code(mx: Any, serve: Serve, ask: Ask, tmp_path: Path) -> None:
    service = serve(export_sum(mx, tmp_path))
    assert service.invoke(ask("[[1, 2], [3, 4]]")).body == b"[[3.0], [7.0]]"
    assert service.invoke(ask("1,2\n", "text/csv", "text/csv")).body == b"3.0\n"
    assert service.invoke(ask("[[1, 2]]")).body == b"[[3.0]]"  # of a shape seen before
    stream = io.BytesIO()
    np.save(stream, np.array([[1, 2]]))
    assert service.invoke(ask(stream.getvalue(), "application/x-npy")).body == b"[[3.0]]"


@needs_mxnet
@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ('{"instances": [[1, 2]]}', b'{"predictions": [[3.0]]}'),
        ('{"inputs": {"data": [[1, 2]]}}', b'{"outputs": [[3.0]]}'),
    ],
)
def test_the_usual_envelopes_are_understood(
    mx: Any, serve: Serve, ask: Ask, tmp_path: Path, body: str, answer: bytes
) -> None:
    assert serve(export_sum(mx, tmp_path)).invoke(ask(body)).body == answer


@needs_mxnet
def test_what_is_exported_from_the_numpy_interface_is_served_too(
    mx: Any, serve: Serve, ask: Ask, tmp_path: Path
) -> None:
    mx.npx.set_np()
    try:
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Dense(1, weight_initializer="ones"))
        net.initialize()
        net.hybridize()
        net(mx.np.ones((1, 2)))
        net.export(str(tmp_path / "model"))
        mx.npx.reset_np()
        assert serve(tmp_path).invoke(ask("[[1, 2]]")).body == b"[[3.0]]"
    finally:
        mx.npx.reset_np()


@needs_mxnet
def test_a_checkpoint_is_served_at_its_last_epoch(
    mx: Any, serve: Serve, ask: Ask, options: HandlerOptions, tmp_path: Path
) -> None:
    save_checkpoint(mx, tmp_path, 3, 12)
    assert inspect_model(tmp_path, options).artifact == "net-0012.params"
    (probabilities,) = json.loads(serve(tmp_path).invoke(ask("[[1, 2, 3, 4, 5, 6]]")).body)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)


@needs_mxnet
def test_rows_take_the_shape_that_the_model_tells(
    mx: Any, serve: Serve, ask: Ask, tmp_path: Path
) -> None:
    save_checkpoint(mx, tmp_path, 0)
    write_shapes(tmp_path, [{"name": "data", "shape": [1, 6]}])
    service = serve(tmp_path)
    assert len(json.loads(service.invoke(ask("[[[1, 2], [3, 4], [5, 6]]]")).body)) == 1
    with pytest.raises(HandlerError, match=r"says that a row has \(6,\)") as caught:
        service.invoke(ask("[[1, 2, 3, 4]]"))
    assert caught.value.status == 400


@needs_mxnet
def test_several_inputs_come_by_name_and_several_outputs_in_order(
    mx: Any, serve: Serve, ask: Ask, tmp_path: Path
) -> None:
    left, right, weight = (mx.sym.Variable(name) for name in ("left", "right", "weight"))
    total = left + right
    mx.sym.Group([total, mx.sym.broadcast_mul(total, weight)]).save(
        str(tmp_path / "model-symbol.json")
    )
    mx.nd.save(str(tmp_path / "model-0000.params"), {"arg:weight": mx.nd.array([10])})
    service = serve(tmp_path)
    answer = service.invoke(ask('{"inputs": {"left": [1, 2], "right": [3, 4]}}')).body
    assert answer == b'{"outputs": [[4.0, 6.0], [40.0, 60.0]]}'
    with pytest.raises(HandlerError, match="takes the inputs left, right") as caught:
        service.invoke(ask("[[1, 2]]"))
    assert caught.value.status == 400


@needs_mxnet
@pytest.mark.parametrize("body", ["[[1, 2, 3]]", "[1]", '{"a": 1}', '["x"]', "null", '"text"'])
def test_input_that_does_not_fit_is_the_clients_fault(
    mx: Any, serve: Serve, ask: Ask, tmp_path: Path, body: str
) -> None:
    service = serve(export_sum(mx, tmp_path))
    with pytest.raises(HandlerError) as caught:
        service.invoke(ask(body))
    assert caught.value.status == 400
    assert "Traceback" not in caught.value.message
    assert service.invoke(ask("[[1, 2]]")).body == b"[[3.0]]"


@needs_mxnet
def test_a_script_without_model_fn_gets_the_model_and_arrays_of_mxnet(
    mx: Any, serve: Serve, ask: Ask, tmp_path: Path
) -> None:
    export_sum(mx, tmp_path)
    (tmp_path / "code").mkdir()
    script = "import mxnet\ndef predict_fn(data, model): return model(data * 2) + len(data)\n"
    (tmp_path / "code" / "inference.py").write_text(script)
    assert serve(tmp_path).invoke(ask("[[1, 2]]")).body == b"[[7.0]]"


@needs_mxnet
@pytest.mark.filterwarnings("ignore:Cannot decide type:UserWarning")  # SymbolBlock says so
def test_a_gluon_block_of_a_model_fn_is_called(
    mx: Any, serve: Serve, ask: Ask, tmp_path: Path
) -> None:
    export_sum(mx, tmp_path)
    script = (
        "import mxnet as mx\n"
        "def model_fn(d):\n"
        "    return mx.gluon.SymbolBlock.imports(f'{d}/model-symbol.json', ['data'],\n"
        "                                        f'{d}/model-0000.params')\n"
    )
    (tmp_path / "inference.py").write_text(script)
    assert serve(tmp_path).invoke(ask("[[1, 2]]")).body == b"[[3.0]]"


@needs_mxnet
@pytest.mark.parametrize("name", ["model-0000.params", "model-symbol.json"])
@pytest.mark.parametrize("kept", [0, 30])
def test_a_damaged_file_is_named(
    mx: Any, serve: Serve, tmp_path: Path, name: str, kept: int
) -> None:
    path = export_sum(mx, tmp_path) / name
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelLoadError, match=f"{name} is damaged or incomplete"):
        serve(tmp_path)


@needs_mxnet
@pytest.mark.parametrize("shapes", [{"data": [1, 6]}, [{"name": "data"}], [1]])
def test_shapes_of_another_form_are_refused(
    mx: Any, serve: Serve, tmp_path: Path, shapes: Any
) -> None:
    write_shapes(export_sum(mx, tmp_path), shapes)
    with pytest.raises(ModelLoadError, match=r"model-shapes.json must be a list"):
        serve(tmp_path)


@needs_mxnet
def test_parameters_of_another_symbol_are_refused(mx: Any, serve: Serve, tmp_path: Path) -> None:
    save_checkpoint(mx, tmp_path, 0)
    mx.nd.save(str(tmp_path / "net-0000.params"), {"arg:dense_weight": mx.nd.ones((3, 4))})
    with pytest.raises(ModelLoadError, match=r"net-0000.params lacks .*moving_mean"):
        serve(tmp_path)
    write_shapes(tmp_path, [{"name": "data", "shape": [1, 6]}])
    with pytest.raises(ModelLoadError, match=r"net-0000.params lacks hidden_weight"):
        serve(tmp_path)


@needs_mxnet
def test_a_gpu_that_is_not_there_is_told(mx: Any, options: HandlerOptions, tmp_path: Path) -> None:
    plan = inspect_model(export_sum(mx, tmp_path), options)
    with pytest.raises(ModelLoadError, match="to run on GPU 0, but MXNet sees none"):
        mxnet.load(plan, Resources(gpu_id=0))


@pytest.mark.parametrize(
    ("files", "artifact"),
    [
        (("model-0000.params", "model-symbol.json"), "model-0000.params"),
        (("net-0009.params", "net-0010.params", "net-symbol.json"), "net-0010.params"),
        (("net-9999.params", "net-10000.params", "net-symbol.json"), "net-10000.params"),
        (("a-0000.params", "a-symbol.json", "model-0001.params", "model-symbol.json"),
         "model-0001.params"),
        (("a-0000.params", "a-symbol.json", "b-0000.params", "b-symbol.json"), None),
        (("net.params",), None),
        (("net-symbol.json",), None),
        (("other-0000.params", "net-symbol.json"), None),
    ],
)  # fmt: skip
def test_the_model_is_a_symbol_with_its_parameters(
    tmp_path: Path, files: tuple[str, ...], artifact: str | None
) -> None:
    contents = Contents(tmp_path, tuple(sorted(files)))
    assert mxnet.find_artifact(contents) == artifact
    if artifact is not None:
        found = for_artifact(contents)
        assert found is not None
        assert found[0].NAME == "mxnet"
