"""The files that a browser loads: all of the folder ``static``, read once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "woff2": "font/woff2",
}

# The page takes nothing from elsewhere, runs no code but its own files, and is in no other page.
HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-cache"),  # asks each time, and is told 304
)


@dataclass(frozen=True, slots=True)
class File:
    """One file, as it is sent."""

    content_type: str
    etag: str
    content: bytes


def load() -> dict[str, File]:
    """All files by name, such as ``page.html``; those of a type that is not known are left out."""
    folder = files(__package__) / "static"
    found = {}
    for path in folder.iterdir():
        content_type = _TYPES.get(path.name.rpartition(".")[2])
        if path.is_file() and content_type is not None:
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[path.name] = File(content_type, etag, content)
    return found
