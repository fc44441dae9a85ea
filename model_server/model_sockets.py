"""The listening socket of a model: made hidden, shown when it is hot, withdrawn before it goes.

Its backlog is the model's queue, and the controller holds it, so the queue outlives every worker.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from model_server.model import Model


def listen(model: Model, queue_size: int) -> socket.socket:
    """Make the model's socket where nobody finds it yet."""
    hidden = _hidden(model)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    hidden.unlink(missing_ok=True)
    listener.bind(str(hidden))
    listener.listen(queue_size)
    model.listener = listener
    model.inode = os.fstat(listener.fileno()).st_ino
    return listener


def publish(model: Model) -> None:
    """Show the socket: from now on the model is hot."""
    with suppress(FileNotFoundError):  # after a restart it is in place already
        _hidden(model).rename(model.socket_path)


def hide(model: Model) -> None:
    """Hide the socket of a model that will be back on it: new requests ask the controller first."""
    with suppress(FileNotFoundError):
        Path(model.socket_path).rename(_hidden(model))


def withdraw(model: Model) -> None:
    """Remove the socket: new requests ask the controller first."""
    for path in (Path(model.socket_path), _hidden(model)):
        path.unlink(missing_ok=True)


def close(model: Model) -> None:
    """Refuse what is still queued: it asks the controller, too."""
    if model.listener is not None:
        model.listener.close()
        model.listener = None


def remove(model: Model) -> None:
    """Hide the socket and close it: the model is not in memory any more."""
    withdraw(model)
    close(model)


def _hidden(model: Model) -> Path:
    return Path(f"{model.socket_path}.new")
