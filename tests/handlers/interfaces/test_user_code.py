from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from handlers.interfaces.user_code import add_to_path, classes_of, import_file, import_handler

Make = Callable[..., Path]


def test_directories_come_first_in_their_order_and_once() -> None:
    before = [*sys.path]
    add_to_path(["/a", before[-1], "/b", "/a"])
    assert sys.path == ["/a", before[-1], "/b", *before[:-1]]


def test_a_file_becomes_the_module_of_its_name(make: Make) -> None:
    path = make({"my-script.py": "NAME = __name__"}) / "my-script.py"
    module = import_file(path)
    assert module.NAME == "my-script"
    assert sys.modules["my-script"] is module


def test_a_file_that_fails_leaves_the_module_that_was_there(make: Make) -> None:
    files = {"one/script_of_test.py": "A = 1", "two/script_of_test.py": "raise OSError"}
    first = import_file(make(files) / "one/script_of_test.py")
    with pytest.raises(OSError):
        import_file(make(files) / "two/script_of_test.py")
    assert sys.modules["script_of_test"] is first
    with pytest.raises(OSError):
        import_file(make(files) / "two/script_of_test.py", "another_of_test")
    assert "another_of_test" not in sys.modules


def test_a_module_may_replace_itself(make: Make) -> None:
    text = "import sys, types\nsys.modules[__name__] = types.SimpleNamespace(own=True)\n"
    module = import_file(make({"odd_of_test.py": text}) / "odd_of_test.py")
    assert module.own is True
    del sys.modules["odd_of_test"]


def test_a_file_that_is_not_python_is_refused(make: Make) -> None:
    with pytest.raises(ImportError, match="is not a Python file"):
        import_file(make({"script.sh": ""}) / "script.sh")


def test_an_installed_handler_is_imported_by_name() -> None:
    assert import_handler("json.tool", None).__name__ == "json.tool"


def test_only_the_classes_of_the_module_itself_count(make: Make) -> None:
    text = "from enum import Enum\nclass A: pass\nB = A()\nclass C(Enum): X = 1\n"
    module = import_file(make({"classes_of_test.py": text}) / "classes_of_test.py")
    assert [item.__name__ for item in classes_of(module)] == ["A", "C"]
