"""The run directory: where the processes of one server find each other's sockets.

Lives on a memory file system when there is one. It is locked for as long as its server lives, so a
new server can tell what a killed one left behind, and removes it.
"""

from __future__ import annotations

import fcntl
import functools
import os
import tempfile
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from model_server import own_directory
from model_server.settings import SettingsError

_PREFIX = "modelyard-"
_PARENTS = ("/dev/shm", "/run", "/tmp")

# A Unix socket's path may have 107 bytes; ours add this much to the directory.
_MAX_DIRECTORY_BYTES = 107 - len("/m/") - 32 - len(".sock.new")


@functools.lru_cache(maxsize=8192)
def _digest(model_name: str) -> str:
    """A file name for any model name. Names are opaque: none ever becomes a path."""
    return blake2b(model_name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class RunDir:
    """Paths below a run directory."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.control_socket = f"{path}/control.sock"
        self.settings_file = f"{path}/settings.json"
        self.stats_file = f"{path}/stats"
        self._models = f"{path}/m/"

    def model_socket(self, model_name: str) -> str:
        """Where a hot model listens. The file is there only while it is hot."""
        return f"{self._models}{_digest(model_name)}.sock"

    @classmethod
    def create(cls, wanted: str) -> RunDir:
        """Make and lock a run directory: the one wanted, or a new one in the best place."""
        if wanted:
            Path(wanted).mkdir(parents=True, exist_ok=True)
            path = wanted
        else:
            parent = _writable_parent()
            _remove_abandoned(parent)
            path = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
        if len(os.fsencode(path)) > _MAX_DIRECTORY_BYTES:
            raise SettingsError(f"run_dir {path!r} is longer than {_MAX_DIRECTORY_BYTES} bytes")
        run_dir = cls(path)
        run_dir._lock()
        run_dir._clear()
        Path(run_dir._models).mkdir(exist_ok=True)
        return run_dir

    def _lock(self) -> None:
        self._lock_fd = os.open(f"{self.path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(f"run_dir {self.path!r} is in use by another server") from None

    def remove(self) -> None:
        """Remove what is ours in it, and itself if nothing else is there."""
        self._clear()
        for name in (self.settings_file, self.stats_file, f"{self.path}/lock"):
            Path(name).unlink(missing_ok=True)
        for directory in (self._models, self.path):
            with suppress(OSError):  # somebody else's files: not ours to remove
                Path(directory).rmdir()

    def _clear(self) -> None:
        """Remove all sockets."""
        Path(self.control_socket).unlink(missing_ok=True)
        for pattern in ("*.sock", "*.sock.new"):
            for path in Path(self._models).glob(pattern):
                path.unlink(missing_ok=True)


def _writable_parent() -> str:
    for parent in _PARENTS:
        if os.access(parent, os.W_OK | os.X_OK):
            return parent
    return tempfile.gettempdir()


def _remove_abandoned(parent: str) -> None:
    """Remove run directories whose server was killed."""
    for path in Path(parent).glob(f"{_PREFIX}*"):
        own_directory.remove_unless_locked(path, path / "lock")
