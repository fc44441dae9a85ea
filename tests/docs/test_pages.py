"""Pages are read as what their readers type."""

from __future__ import annotations

from pathlib import Path

import pytest

from documentation.pages import Block, read
from documentation.shell import Failed, Shell
from tests.docs.conftest import PAGES, name_of

PAGE = """# A page

<!-- before:
mkdir hidden
-->

```console
$ ./scripts/install up && . .venv/bin/activate
$ echo one \\
    two
one two
```

`folder/code.py`:

```python
print("a file")
```

```python
print(open("folder/code.py").read(), end="")
```

<!-- not run: it needs a GPU -->
```console
$ false
```

1. A step:

   ```console
   $ echo three
   ```

<!-- prints -->
```text
one two
```
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_blocks_are_what_is_typed_written_and_left_out(page: Path) -> None:
    hidden, shown, file, python, gpu, step, printed = read(page).blocks
    assert hidden.lines() == ["mkdir hidden"]
    assert shown.lines() == ["echo one \\", "    two"]
    assert file == Block("python", 'print("a file")', 16, file="folder/code.py")
    assert python.is_typed and python.is_run
    assert gpu.is_typed and not gpu.is_run and gpu.why == "it needs a GPU"
    assert step.lines() == ["echo three"]
    assert not printed.is_run and printed.text == "one two"


def test_a_script_does_all_of_it(page: Path, shell: Shell) -> None:
    lines = shell.run(read(page).script(), 60).splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        *("one two", 'print("a file")', "three")
    ]
    assert (shell.directory / "hidden").is_dir()
    assert read(page).printed() == ["one two"]


def test_a_script_that_fails_is_told_with_its_output(shell: Shell) -> None:
    with pytest.raises(Failed, match=r"exit code 1:[^$]*said"):
        shell.run("echo said; exit 1", 60)


def test_what_takes_too_long_is_ended(shell: Shell) -> None:
    with pytest.raises(Failed, match=r"after 0\.1 s"):
        shell.run("mkfifo never; read line <>never", 0.1)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_is_not_run_has_a_reason(page: Path) -> None:
    assert all(block.why for block in read(page).blocks if block.word == "not run")
