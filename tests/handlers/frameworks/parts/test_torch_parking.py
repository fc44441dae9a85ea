"""Moving the bytes of tensors away and back, with the CPU in the place of a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from handlers.errors import ParkingFailed
from handlers.frameworks.parts.torch_parking import TorchParking, torch_parking

CPU = "cpu"
ROWS = 64


class Net(torch.nn.Module):
    """Tied weights, a view, a buffer that changes, and a tensor that is only an attribute."""

    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Linear(ROWS, ROWS)
        self.two = torch.nn.Linear(ROWS, ROWS)
        self.two.weight = self.one.weight
        self.recurrent = torch.nn.LSTM(4, 4)
        self.register_buffer("calls", torch.zeros(1))
        self.scale = torch.full((ROWS,), 2.0)

    def forward(self, rows: Any) -> Any:
        self.calls += 1
        return self.two(self.one(rows)) * self.scale


def parking_of(loaded: Any) -> TorchParking:
    found = torch_parking(loaded, CPU)
    assert found is not None
    return found


def predict(net: Any) -> Any:
    with torch.inference_mode():
        return net(torch.ones(1, ROWS))


def test_nothing_is_left_on_the_device_and_all_comes_back() -> None:
    net = Net().eval()
    parking = parking_of(net)
    view = net.one.weight[3:5]
    before, rows = predict(net), view.detach().clone()
    held = parking.bytes_on_device()
    assert held > ROWS * ROWS * 4
    parking.park()
    assert parking.bytes_on_device() == 0
    parking.restore()
    assert parking.bytes_on_device() == held
    assert torch.equal(predict(net), before)
    assert torch.equal(view, rows)


def test_tied_weights_are_one_and_stay_tied() -> None:
    net = Net()
    parking = parking_of(net)
    assert parking.bytes_on_device() < 2 * ROWS * ROWS * 4
    parking.park()
    parking.restore()
    with torch.no_grad():
        net.one.weight[0, 0] = 123.0
    assert net.two.weight[0, 0] == 123.0


def test_buffers_that_changed_are_as_they_were_when_it_was_parked_again() -> None:
    net = Net().eval()
    parking = parking_of(net)
    for calls in (1.0, 2.0, 3.0):
        predict(net)
        parking.park()
        parking.restore()
        assert net.calls[0] == calls


def test_parameters_that_were_written_to_are_copied_again() -> None:
    net = Net()
    parking = parking_of(net)
    for value in (5.0, 6.0):
        with torch.no_grad():
            net.one.bias.fill_(value)
        parking.park()
        parking.restore()
        assert net.one.bias[0] == value


def test_parking_again_copies_no_weights_that_nobody_wrote_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = torch.nn.Linear(ROWS, ROWS)
    parking = parking_of(net)
    parking.park()
    parking.restore()
    copied: list[int] = []
    original = torch.Tensor.copy_

    def counting(self: Any, *args: Any, **options: Any) -> Any:
        copied.append(self.numel())
        return original(self, *args, **options)

    monkeypatch.setattr(torch.Tensor, "copy_", counting)
    parking.park()
    assert copied == []


def test_weights_that_were_replaced_are_parked_too() -> None:
    net = torch.nn.Linear(ROWS, ROWS)
    parking = parking_of(net)
    parking.park()
    parking.restore()
    net.weight = torch.nn.Parameter(torch.full((ROWS, ROWS), 3.0))
    parking.park()
    assert parking.bytes_on_device() == 0
    parking.restore()
    assert torch.equal(net.weight, torch.full((ROWS, ROWS), 3.0))


def test_weights_made_in_inference_mode_come_back() -> None:
    with torch.inference_mode():
        net = torch.nn.Linear(ROWS, ROWS)
    parking = parking_of(net)
    before = predict(net)
    for _ in range(2):
        parking.park()
        parking.restore()
    assert torch.equal(predict(net), before)


def scripted(folder: Path) -> Any:
    net: Any = torch.nn.Sequential(torch.nn.Linear(ROWS, ROWS), torch.nn.ReLU()).eval()
    file = folder / "traced.pt"
    trace: Callable[..., Any] = torch.jit.trace
    trace(net, torch.ones(1, ROWS)).save(str(file))
    load: Callable[..., Any] = torch.jit.load
    return load(str(file))


def exported(folder: Path) -> Any:
    file = folder / "exported.pt2"
    net = torch.nn.Sequential(torch.nn.Linear(ROWS, ROWS), torch.nn.ReLU()).eval()
    torch.export.save(torch.export.export(net, (torch.ones(1, ROWS),)), file)
    return torch.export.load(file).module()


@pytest.mark.parametrize("made", [scripted, exported])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_programs_without_their_code_are_parked(
    made: Callable[[Path], Any], tmp_path: Path
) -> None:
    net = made(tmp_path)
    for weight in net.parameters():
        weight.data = weight.data.clone()  # as a move to a GPU does; on the CPU it is the file's
    before = predict(net)
    parking = parking_of(net)
    parking.park()
    assert parking.bytes_on_device() == 0
    parking.restore()
    assert torch.equal(predict(net), before)


def in_a_service(net: Any) -> Any:
    return SimpleNamespace(model=net, tokenizer=object())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: net,
        lambda net: [net, "x"],
        lambda net: {"model": net, "names": ["a"]},
        in_a_service,
        lambda net: SimpleNamespace(service=SimpleNamespace(pipeline=in_a_service(net))),
    ],
    ids=["itself", "list", "dict", "service", "pipeline"],
)
def test_modules_are_found_where_models_keep_them(wrap: Callable[[Any], Any]) -> None:
    assert parking_of(wrap(torch.nn.Linear(2, 2))).bytes_on_device() == 24


@pytest.mark.parametrize("loaded", [None, "text", {"a": 1}, torch.ones(3), torch.nn.ReLU(), Net])
def test_what_has_no_weights_is_not_parked(loaded: Any) -> None:
    assert torch_parking(loaded, CPU) is None


def test_what_is_on_another_device_is_left_alone() -> None:
    assert torch_parking(Net()) is None


def test_objects_in_a_circle_are_looked_at_once() -> None:
    circle: dict[str, Any] = {"net": torch.nn.Linear(2, 2)}
    circle["again"] = [circle, circle]
    assert parking_of(circle).bytes_on_device() == 24


def test_it_comes_back_only_from_where_it_is() -> None:
    parking = parking_of(torch.nn.Linear(2, 2))
    with pytest.raises(ParkingFailed, match="not parked"):
        parking.restore()
    parking.park()
    parking.restore()
    with pytest.raises(ParkingFailed, match="not parked"):
        parking.restore()


def refuse(*_: Any, **__: Any) -> Any:
    raise RuntimeError("CUDA out of memory")


def test_a_return_that_fails_leaves_it_parked_and_may_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = Net()
    parking = parking_of(net)
    weights = net.one.weight.detach().clone()
    parking.park()
    with monkeypatch.context() as broken:
        broken.setattr(torch.Tensor, "copy_", refuse)
        with pytest.raises(RuntimeError, match="out of memory"):
            parking.restore()
    assert parking.bytes_on_device() == 0
    parking.restore()
    assert torch.equal(net.one.weight, weights)


def test_parking_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net().eval()
    parking = parking_of(net)
    before = predict(net)
    with monkeypatch.context() as broken:
        broken.setattr(torch.Tensor, "copy_", refuse)
        with pytest.raises(RuntimeError, match="out of memory"):
            parking.park()
    assert torch.equal(predict(net), before)
    parking.park()
    parking.restore()
    assert torch.equal(predict(net), before)
