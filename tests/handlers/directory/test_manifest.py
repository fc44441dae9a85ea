from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from handlers.directory.manifest import entry, read_manifest
from handlers.errors import ModelLoadError

Make = Callable[..., Path]


def test_a_model_without_a_manifest_has_none(make: Make) -> None:
    assert read_manifest(make({})) is None
    assert entry(None, "handler") is None


def test_a_manifest_is_read_whole(make: Make) -> None:
    text = '{"engine": "x", "model": {"handler": "a:b", "serializedFile": ""}}'
    manifest = read_manifest(make({"MAR-INF/MANIFEST.json": text}))
    assert manifest is not None and manifest["engine"] == "x"
    assert entry(manifest, "handler") == "a:b"
    assert entry(manifest, "serializedFile") is None
    assert entry({}, "handler") is None


@pytest.mark.parametrize("text", ["", "{", "\xff", "[]", "null", '{"model": []}', "[" * 100_000])
def test_a_broken_manifest_is_400(make: Make, text: str) -> None:
    with pytest.raises(ModelLoadError) as caught:
        read_manifest(make({"MAR-INF/MANIFEST.json": text.encode("latin-1")}))
    assert caught.value.status == 400
