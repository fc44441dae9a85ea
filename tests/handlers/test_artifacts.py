from __future__ import annotations

import pytest

from handlers.artifacts import candidates, holds_weights, pick

EXTENSIONS = (".safetensors", ".pt")


@pytest.mark.parametrize(
    ("names", "picked"),
    [
        ([], None),
        (["readme", "notes.txt"], None),
        (["net.PT"], "net.PT"),
        (["a.pt", "model.pt"], "model.pt"),
        (["model.pt", "Model.safetensors"], "Model.safetensors"),
        (["a.pt", "b.pt"], None),
        (["a.pt", "._a.pt", ".pt"], "a.pt"),
        (["model.v2.pt", "model.pt"], "model.pt"),
    ],
)
def test_the_model_is_called_model_or_is_the_only_one(names: list[str], picked: str | None) -> None:
    assert pick(names, EXTENSIONS) == picked


def test_candidates_come_in_order_of_extension_then_name() -> None:
    names = ["b.pt", "a.pt", "z.safetensors", "c.txt"]
    assert candidates(names, EXTENSIONS) == ["z.safetensors", "a.pt", "b.pt"]


@pytest.mark.parametrize(("name", "holds"), [("a.ONNX", True), ("a.txt", False), ("onnx", False)])
def test_weights_are_told_by_the_extension(name: str, holds: bool) -> None:
    assert holds_weights(name) is holds
