"""``python requirements.py PYPROJECT EXTRA,EXTRA…``: what to install before the project itself.

Prints the dependencies and those of the extras, one a line, with the project's extras that extras
name resolved. An extra that there is not ends it with a message and exit code 1.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path


def requirements(project: Mapping[str, object], extras: Iterable[str]) -> list[str]:
    """What the ``project`` table of a pyproject.toml asks for with these extras, each line once.

    Raises ValueError for an unknown extra.
    """
    dependencies, optional = (
        project.get("dependencies", []),
        project.get("optional-dependencies", {}),
    )
    assert isinstance(dependencies, list) and isinstance(optional, dict)
    found = [
        *dependencies,
        *(line for name in extras for line in _of_extra(project, optional, name)),
    ]
    return list(dict.fromkeys(found))


def _of_extra(
    project: Mapping[str, object], optional: Mapping[str, Sequence[str]], extra: str
) -> Iterator[str]:
    if extra not in optional:
        raise ValueError(f"there is no extra {extra!r}; there are {', '.join(sorted(optional))}")
    own = re.compile(rf"{project['name']}\[(?P<extras>[^]]*)\]")
    for line in optional[extra]:
        named = own.fullmatch(line)
        if named is None:
            yield line
            continue
        for name in named["extras"].split(","):
            yield from _of_extra(project, optional, name.strip())


def main() -> None:
    """The command line."""
    pyproject, extras = sys.argv[1:]
    project = tomllib.loads(Path(pyproject).read_text())["project"]
    try:
        lines = requirements(project, filter(None, (name.strip() for name in extras.split(","))))
    except ValueError as error:
        sys.exit(str(error))
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
