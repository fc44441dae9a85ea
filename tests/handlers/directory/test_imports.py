from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from handlers.directory.imports import MAX_FILE_BYTES, MAX_FILES, imported_modules

Make = Callable[..., Path]


def imports(make: Make, files: dict[str, str]) -> set[str]:
    return imported_modules(make(files) / "script.py")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import a, b.c as d", {"a", "b"}),
        ("from a.b import c", {"a"}),
        ("from . import a", {"a"}),
        ("from .a import b", {"a"}),
        ("def f():\n    try:\n        import a\n    except ImportError: pass", {"a"}),
        ("x = 'import a'", set()),
        ("import a, (", set()),
        ("\x00", set()),
        ("(" * 10_000, set()),
    ],
)
def test_the_imports_of_a_file_are_found_wherever_they_are(
    make: Make, text: str, names: set[str]
) -> None:
    assert imports(make, {"script.py": text}) == names


def test_modules_beside_the_script_are_followed(make: Make) -> None:
    files = {
        "script.py": "import a",
        "a.py": "import b",
        "b.py": "import a, torch",
        "c.py": "import d",
    }
    assert imports(make, files) == {"a", "b", "torch"}


def test_large_files_and_long_chains_are_not_read_to_the_end(make: Make) -> None:
    files = {f"m{n}.py": f"import m{n + 1}" for n in range(MAX_FILES * 2)}
    found = imports(
        make,
        {**files, "script.py": "import m0, big", "big.py": "#" * MAX_FILE_BYTES + "\nimport x"},
    )
    assert len(found) <= MAX_FILES + 2
    assert "x" not in found


def test_a_script_that_is_not_there_imports_nothing(tmp_path: Path) -> None:
    assert imported_modules(tmp_path / "gone.py") == set()
