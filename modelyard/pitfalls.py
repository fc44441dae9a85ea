"""What will bite whoever serves a directory, as far as that is sure from looking at its files."""

from __future__ import annotations

import mmap
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

_PICKLES = frozenset({".pkl", ".pickle", ".joblib", ".pt", ".pth"})
# How pickles of all protocols name a module, each with its length or its end.
_MAIN = re.compile(rb"c__main__\n|\x8c\x08__main__|X\x08\x00\x00\x00__main__")
_MAX_PICKLE_BYTES = 64 << 20


def pitfalls(directory: Path) -> Iterator[str]:
    """Sentences, each with what to do."""
    for path in sorted(directory.iterdir()):
        if path.suffix.lower() in _PICKLES and path.is_file() and _names_main(path):
            yield (
                f"{path.name} was pickled with a class of the script that trained it (__main__), "
                "which no server has. Move the class into a module that lies in code/, import it "
                "from there, and train or save again."
            )


def _names_main(path: Path) -> bool:
    """Whether a pickle names a class of ``__main__``; False for what is compressed."""
    try:
        if zipfile.is_zipfile(path):  # as torch.save writes them
            return any(_MAIN.search(data) for data in _pickles_within(path))
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _MAIN.search(data) is not None
    except (OSError, ValueError, zipfile.BadZipFile):  # empty, or not what it seems
        return False


def _pickles_within(path: Path) -> Iterator[bytes]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith("/data.pkl") and member.file_size <= _MAX_PICKLE_BYTES:
                yield archive.read(member)
