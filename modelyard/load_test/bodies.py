"""What is sent to which model."""

from __future__ import annotations

import mimetypes
import sys
from collections.abc import Sequence
from pathlib import Path

from modelyard.invoke import content_type_of
from modelyard.load_test.problem import Problem
from modelyard.load_test.wire import Body


def default_body(file: str | None, text: str | None, content_type: str | None) -> Body:
    """The body for all models: of a file ("-" is standard input), or a text. Raises Problem."""
    content_type = content_type or content_type_of(file, text)
    if file is None:
        return Body((text or "").encode("utf-8", "surrogateescape"), content_type=content_type)
    if file == "-":
        return Body(sys.stdin.buffer.read(), content_type=content_type)
    try:
        return Body(Path(file).read_bytes(), content_type=content_type)
    except OSError as error:
        raise Problem(f"--body: {file} cannot be read ({error.strerror})") from error


def bodies_of(
    targets: Sequence[str], folder: Path, default: Body | None, content_type: str | None
) -> list[Body]:
    """The body of each target: its file in the folder, else the default. Raises Problem.

    The file of ``a/iris.tar.gz`` is ``a/iris``, ``a/iris.csv``, ``a/iris.tar.gz`` or
    ``a/iris.tar.gz.csv``, with any ending for ``csv``; it says the content type.
    """
    if not folder.is_dir():
        raise Problem(f"--bodies: there is no folder {folder}")
    files = _files(folder)
    bodies, missing = [], []
    for target in targets:
        file = files.get(target) or files.get(target.removesuffix(".tar.gz"))
        if file is not None:
            found = content_type or mimetypes.guess_type(file)[0]
            bodies.append(Body(file=str(file), content_type=found))
        elif default is not None:
            bodies.append(default)
        else:
            missing.append(target)
    if missing:
        raise Problem(
            f"--bodies: {folder} has no file for {len(missing):,} of {len(targets):,} models, "
            f"{missing[0]} for one: add it, or give --body or --data for all that have none"
        )
    return bodies


def _files(folder: Path) -> dict[str, Path]:
    """By name, with and without what follows the last dot; whole names count first."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    whole = {str(path.relative_to(folder)): path for path in found}
    short = {str(path.relative_to(folder).with_suffix("")): path for path in found}
    return {**short, **whole}
