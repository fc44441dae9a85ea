"""A page as what its reader types: blocks in their order, made into one shell script.

    ```console      lines that begin with "$ " are typed; the others are what one sees
    ```sh           all lines are typed
    ```python       given to ``python``
    any language    after "`FILE`:", is written to that file instead

A comment directly above a block says what else is to be done with it:

    <!-- not run: REASON -->    it needs what tests have not: a GPU, AWS, Docker
    <!-- server -->             its last line is a server; it goes on beside the lines that follow,
                                on a free port in place of 8080
    <!-- prints -->             a ```text block: each line is among those printed so far, whatever
                                the numbers in it

And ``<!-- before: LINES -->``, anywhere, has lines that a reader need not see.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

_TYPED = ("console", "sh", "python")

_BLOCK = re.compile(
    r"^ *(?:<!-- (?P<word>not run|server|prints)(?:: (?P<why>.+?))? -->\n+ *)?"
    r"```(?P<language>\w*)\n(?P<text>.*?)^ *```$|^<!-- before:(?P<before>.*?)-->",
    re.DOTALL | re.MULTILINE,
)
_FILE = re.compile(r"`(?P<name>[\w./-]+\.\w+)`:\s*$")

# Whoever runs a page has done that, in a way of their own.
_INSTALLS = ("./scripts/install", ". .venv/bin/activate")

_WAIT_FOR_SERVER = """\
SERVER=$!
trap 'kill $SERVER; wait $SERVER || true' EXIT
until PORT=$(sed -n 's/.*listening on [^:]*:\\([0-9]*\\),.*/\\1/p' server.log) && [ "$PORT" ]; do
    kill -0 $SERVER || { cat server.log; exit 1; }
    sleep 0.1
done"""


@dataclass(frozen=True)
class Block:
    """A block of a page. ``word`` is that of the comment above it; ``file`` is what it becomes."""

    language: str
    text: str
    line: int
    word: str = ""
    why: str = ""
    file: str = ""

    @property
    def is_typed(self) -> bool:
        """Whether a reader is to type it."""
        return self.language in _TYPED and not self.file

    @property
    def is_run(self) -> bool:
        """Whether a script has it."""
        return (self.is_typed or bool(self.file)) and self.word != "not run"

    def lines(self) -> list[str]:
        """What is typed, without what is seen, and without what installs."""
        if self.language != "console":
            return self.text.splitlines()
        return [line for line in _prompted(self.text) if not line.startswith(_INSTALLS)]


@dataclass(frozen=True)
class Page:
    """A page, read."""

    path: Path
    blocks: tuple[Block, ...]

    @property
    def is_run(self) -> bool:
        """Whether there is anything to type."""
        return any(block.is_run and block.is_typed for block in self.blocks)

    def printed(self) -> list[str]:
        """The lines that the page says are printed."""
        shown = [block.text for block in self.blocks if block.word == "prints"]
        return [line for text in shown for line in text.splitlines() if line.strip()]

    def script(self) -> str:
        """All of it for bash, which stops at the first line that fails."""
        return "\n".join(["set -e", *(part for block in self.blocks for part in _script(block))])


def read(path: Path) -> Page:
    """A page as it lies there."""
    return Page(path, tuple(_blocks(path.read_text())))


def _blocks(text: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        if found["before"] is not None:
            yield Block("sh", found["before"].strip("\n"), line)
            continue
        named = _FILE.search(text[: found.start()].rstrip())
        yield Block(
            found["language"],
            _without_indent(found["text"]),
            line,
            found["word"] or "",
            found["why"] or "",
            named["name"] if named else "",
        )


def _without_indent(text: str) -> str:
    lines = text.splitlines()
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[indent:] for line in lines)


def _prompted(text: str) -> Iterator[str]:
    """Lines behind prompts, and those that a backslash continues."""
    continued = False
    for line in text.splitlines():
        if line.startswith("$ ") or continued:
            yield line.removeprefix("$ ")
            continued = line.endswith("\\")


def _script(block: Block) -> Iterator[str]:
    if not block.is_run:
        return
    yield f"echo {quote(f'# line {block.line}')}"
    if block.file:
        yield f"mkdir -p {quote(str(Path(block.file).parent))}"
        yield from _document(f"cat > {quote(block.file)}", block.text)
    elif block.language == "python":
        yield from _document("python -", block.text)
    else:
        yield from _typed(block)


def _typed(block: Block) -> Iterator[str]:
    lines = [line.replace("localhost:8080", 'localhost:"$PORT"') for line in block.lines()]
    if block.word == "server":
        yield from lines[:-1]
        yield f"{lines[-1]} --port 0 >server.log 2>&1 &"
        yield _WAIT_FOR_SERVER
    else:
        yield from lines


def _document(command: str, text: str) -> Iterator[str]:
    yield f"{command} <<'END OF THE BLOCK'"
    yield text
    yield "END OF THE BLOCK"
