"""What the endpoint remembers, in one SQLite file, so that a restart brings everything back.

All of it is read when the file is opened and kept in memory. A change is on the disk, synced,
before it counts: what a client was told is still true after ``kill -9``. Belongs to one thread;
a change blocks it for as long as the disk takes to sync (measured: 0.3 ms, 5 ms at worst of 200).
So only the control plane makes any, and each start and end of an instance; no request does.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from endpoint.records import Definition, EndpointRecord, InstanceRecord

R = TypeVar("R", bound=msgspec.Struct)

# Marks the file as ours (PRAGMA application_id): "Myrd".
_OURS = 0x4D797264

# What brings a file from each version to the next; a new one goes to the end. PRAGMA user_version
# counts those that a file has seen.
_MIGRATIONS = (
    tuple(
        f"CREATE TABLE {table} (name TEXT NOT NULL PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID"
        for table in ("models", "configs", "endpoints", "instances")
    ),
)

_ANOTHER_PLACE = "set MODELYARD_UP_DATA_DIR to another directory"
_START_ANEW = "move it away to start without endpoints, or put a copy of it back"


class StateError(Exception):
    """Raised when the file cannot be used; the text names it and says what to do."""


class StateInUse(StateError):
    """Raised when another process has the file open."""


class State:
    """The tables of one file, which is made if it is not there; its directory is, too.

    Nobody else can open the file until ``close``, or until this process is gone. Raises StateError.
    """

    def __init__(self, path: Path) -> None:
        self._database = _opened(path)
        try:
            with _explained(path):
                self.models = Table(self._database, path, "models", Definition)
                self.configs = Table(self._database, path, "configs", Definition)
                self.endpoints = Table(self._database, path, "endpoints", EndpointRecord)
                self.instances = Table(
                    self._database, path, "instances", InstanceRecord, key=attrgetter("id")
                )
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file; others can open it."""
        self._database.close()


class Table(Generic[R]):
    """Records of one kind by name."""

    def __init__(
        self,
        database: sqlite3.Connection,
        path: Path,
        table: str,
        kind: type[R],
        key: Callable[[R], str] = attrgetter("name"),
    ) -> None:
        self._database = database
        self._path = path
        self._table = table
        self._decoder = msgspec.json.Decoder(kind)
        self._key = key
        self._records = dict(self._rows())

    def get(self, name: str) -> R | None:
        """The record of that name, if there is one."""
        return self._records.get(name)

    def all(self) -> list[R]:
        """All records, in no order that means anything."""
        return list(self._records.values())

    def put(self, record: R) -> None:
        """Store a record in the place of any of its name. Raises StateError; then nothing changed.

        What is kept is a copy, as a restart would read it.
        """
        data = msgspec.json.encode(record)
        kept = self._decoder.decode(data)
        name = self._key(kept)
        self._write(f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?)", name, data)
        self._records[name] = kept

    def remove(self, name: str) -> None:
        """Forget the record of that name, if there is one. Raises StateError."""
        if name in self._records:
            self._write(f"DELETE FROM {self._table} WHERE name = ?", name)
            del self._records[name]

    def _write(self, statement: str, *values: str | bytes) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.OperationalError as error:
            raise StateError(
                f"{self._path} cannot be written ({error}), so nothing was changed; is there space "
                "left on its disk?"
            ) from error

    def _rows(self) -> Iterator[tuple[str, R]]:
        for name, data in self._database.execute(f"SELECT name, record FROM {self._table}"):
            try:
                record = self._decoder.decode(data)
                if self._key(record) != name:
                    raise ValueError(f"it is that of {self._key(record)!r}")
            except (ValueError, TypeError, RecursionError) as error:
                raise StateError(
                    f"{self._path} is damaged: the record of {name!r} in {self._table} cannot be "
                    f"read ({error}); {_START_ANEW}"
                ) from error
            yield name, record


def _opened(path: Path) -> sqlite3.Connection:
    """The database, locked, checked and in the newest version."""
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # it holds containers' environments: nobody else's business
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            # The lock comes with the first statement that reads, and stays. No shared memory is
            # needed then, so the file may be on a network's disk, too.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            _migrate(database, _version(database, path))
            database.execute("COMMIT")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
        except BaseException:
            database.close()
            raise
        return database


def _version(database: sqlite3.Connection, path: Path) -> int:
    """Of the schema, 0 in a new file. Raises StateError if the file is not for us, or damaged."""
    version = _number(database, "user_version")
    if _number(database, "schema_version") and _number(database, "application_id") != _OURS:
        raise StateError(f"{path} is another program's database; {_ANOTHER_PLACE}")
    if version > len(_MIGRATIONS):
        raise StateError(
            f"{path} was written by a newer version of modelyard (its schema is {version}, this "
            f"one knows {len(_MIGRATIONS)}); install that version, or {_ANOTHER_PLACE}"
        )
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise StateError(f"{path} is damaged ({found}); {_START_ANEW}")
    return version


def _migrate(database: sqlite3.Connection, version: int) -> None:
    """Bring the schema to the newest version, within a transaction of the caller's."""
    for number, statements in enumerate(_MIGRATIONS[version:], start=version + 1):
        for statement in statements:
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {_OURS}")
        database.execute(f"PRAGMA user_version = {number}")


def _number(database: sqlite3.Connection, pragma: str) -> int:
    return int(database.execute(f"PRAGMA {pragma}").fetchone()[0])


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors of the system and of SQLite, in words that help."""
    try:
        yield
    except OSError as error:
        raise StateError(
            f"{path} cannot be opened ({error.strerror}); make its directory writable, or "
            f"{_ANOTHER_PLACE}"
        ) from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the details
        if code == sqlite3.SQLITE_BUSY:
            raise StateInUse(
                f"Another endpoint runs on {path.parent}: stop it, or {_ANOTHER_PLACE}"
            ) from error
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise StateError(f"{path} is damaged ({error}); {_START_ANEW}") from error
        raise StateError(
            f"{path} cannot be opened ({error}); make it and its directory writable, with space "
            f"left on the disk, or {_ANOTHER_PLACE}"
        ) from error
