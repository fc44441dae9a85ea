"""Which framework a file belongs to when its ending does not say: by its first bytes.

``.json``, ``.txt`` and pickles may be anybody's. Nothing is unpickled here, and of each file no
more is read than its start.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence

from handlers.directory.artifacts import Contents, candidates

PICKLES: tuple[str, ...] = (".joblib", ".pkl", ".pickle", ".sav")

START_BYTES = 64 << 10
MAX_READ = 32  # files of one ending that are looked into; more of them are no model's directory

# A module's name before a class: a line of its own, or a string with its length in front.
_MODULE = re.compile(rb"c([a-z_]+)\.[\w.]+\n|\x8c.([a-z_]+)\.[\w.]+", re.DOTALL)

ZLIB_OR_GZIP = zlib.MAX_WBITS | 32


def pickled_packages(start: bytes) -> frozenset[str]:
    """The packages whose modules a pickle names in its first bytes; none if it is no pickle."""
    found = (line or text for line, text in _MODULE.findall(_inflated(start)))
    return frozenset(name.decode() for name in found)


def _inflated(start: bytes) -> bytes:
    """The start of what is compressed in it, for joblib's usual compression; else as it is."""
    if start[:1] not in (b"\x78", b"\x1f"):
        return start
    try:
        return zlib.decompressobj(ZLIB_OR_GZIP).decompress(start, START_BYTES)
    except zlib.error:
        return start


def is_pickle_of(contents: Contents, name: str, packages: frozenset[str]) -> bool:
    """Whether a file is a pickle that needs one of the packages."""
    return not packages.isdisjoint(pickled_packages(contents.start_of(name, START_BYTES)))


def pick_recognised(
    contents: Contents, extensions: Sequence[str], accepts: Callable[[str], bool]
) -> str | None:
    """The one file that is the model, as ``artifacts.pick``, among those that ``accepts`` accepts.

    ``accepts`` gets names; it is asked about the files called ``model.*`` first.
    """
    found = candidates(contents.files, extensions)
    for name in found:
        if name.rpartition(".")[0].lower() == "model" and accepts(name):
            return name
    if len(found) > MAX_READ:
        return None
    accepted = [name for name in found if accepts(name)]
    return accepted[0] if len(accepted) == 1 else None
