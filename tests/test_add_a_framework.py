"""The page on adding a framework, followed: its module is used as one, and its tests are run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "how-to" / "add-a-framework.md"
BLOCK = re.compile(r"`(?P<file>[\w/]+\.py)`:\n\n```python\n(?P<code>.*?)```", re.DOTALL)

# The list of frameworks, as the page says to change it, in a process of its own.
CONFTEST = """
import sys
from importlib import import_module
from pathlib import Path
import handlers.frameworks as frameworks

frameworks.__path__.append(str(Path(__file__).parent / "handlers" / "frameworks"))
linear = import_module("handlers.frameworks.linear")
frameworks.FRAMEWORKS = {"linear": linear, **frameworks.FRAMEWORKS}
from tests.handlers.conftest import *
"""

ONE_THREAD = """
from pathlib import Path
import conftest

conftest.linear.preload()
conftest.linear.after_fork(1)
assert len(list(Path("/proc/self/task").iterdir())) == 1
"""


def follow_the_page(folder: Path) -> dict[str, Path]:
    """Write the files that the page shows; returns them by name."""
    files = {match["file"]: match["code"] for match in BLOCK.finditer(PAGE.read_text())}
    assert [Path(name).name for name in files] == ["linear.py", "test_linear.py"]
    for name, code in {**files, "conftest.py": CONFTEST}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    return {Path(name).name: folder / name for name in files}


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_pages_own_tests_pass_with_its_framework(tmp_path: Path) -> None:
    tests = follow_the_page(tmp_path)["test_linear.py"]
    shown = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests), cwd=tmp_path)
    assert "3 passed" in shown


def test_its_preload_leaves_one_thread(tmp_path: Path) -> None:
    follow_the_page(tmp_path)
    run("-c", ONE_THREAD, cwd=tmp_path)


def test_its_code_is_formatted_as_ours(tmp_path: Path) -> None:
    files = [str(path) for path in follow_the_page(tmp_path).values()]
    run("-m", "ruff", "format", "--check", "--line-length", "100", *files, cwd=tmp_path)
