"""Models made on the spot, and a process that forgets them again after each test."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from handlers.inspection import inspect_model
from handlers.interfaces.awaiting import close_event_loop
from handlers.service import load_service
from handlers.types import HandlerOptions, Headers, Request, Service

Make = Callable[..., Path]
Load = Callable[..., Service]
Ask = Callable[..., Request]


@pytest.fixture(autouse=True)
def clean_imports(tmp_path: Path) -> Iterator[None]:
    """Undo what loading a model does to the interpreter and the environment."""
    path, modules, environment = list(sys.path), dict(sys.modules), dict(os.environ)
    yield
    close_event_loop()
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    for name in [name for name, module in sys.modules.items() if _lies_in(tmp_path, module)]:
        del sys.modules[name]
    for name, module in modules.items():
        sys.modules.setdefault(name, module)


def _lies_in(folder: Path, module: ModuleType) -> bool:
    return str(getattr(module, "__file__", None) or "").startswith(str(folder))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make({"code/inference.py": "..."})`` writes a model and returns its directory."""

    def write(files: dict[str, str | bytes], name: str = "model") -> Path:
        model_dir = tmp_path / name
        model_dir.mkdir(exist_ok=True)
        for file, content in files.items():
            path = model_dir / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return model_dir

    return write


@pytest.fixture
def options(tmp_path: Path) -> HandlerOptions:
    """Settings with a shared code directory of the test's own."""
    return HandlerOptions(shared_code_dir=str(tmp_path / "shared"))


@pytest.fixture
def load(make: Make, options: HandlerOptions) -> Load:
    """Write a model, inspect it and load it, with the given settings."""

    def write_and_load(
        files: dict[str, str | bytes], settings: HandlerOptions = options, name: str = "m"
    ) -> Service:
        plan = inspect_model(make(files), settings)
        return load_service(plan, model_name=name, options=settings)

    return write_and_load


@pytest.fixture
def ask() -> Ask:
    """``ask(body, "text/csv", accept="text/csv", x_name="value")`` makes a request."""

    def request(
        body: bytes | str = b"", content_type: str = "", accept: str = "", **headers: str
    ) -> Request:
        pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
        pairs += [("content-type", content_type)] if content_type else []
        pairs += [("Accept", accept)] if accept else []
        content = body.encode() if isinstance(body, str) else body
        return Request(content, Headers(tuple(pairs)), model_name="m", request_id="r-1")

    return request
