"""What the endpoint remembers is there again, whatever ended the process that wrote it."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import sqlite3
import stat
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import pytest

from endpoint.records import (
    Definition,
    EndpointRecord,
    EndpointStatus,
    InstanceRecord,
    VariantState,
)
from endpoint.state import State, StateError, StateInUse

_PROCESSES = multiprocessing.get_context("forkserver")


def _model(name: str, **request: object) -> Definition:
    return Definition(name, dict(request), 1.5)


_ENDPOINT = EndpointRecord(
    "e",
    "c",
    EndpointStatus.IN_SERVICE,
    1.0,
    2.0,
    (VariantState("v", 0.5, 2), VariantState("w", 1.0, 1)),
)
_INSTANCE = InstanceRecord("i-1", "e", "v", 3, 0, {"pid": 7, "url": "http://127.0.0.1:1"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "state.db"


def test_everything_is_there_after_a_restart(path: Path) -> None:
    state = State(path)
    state.models.put(_model("m", Image="é", Tags=[{"Key": "k"}], Size=1 << 40))
    state.configs.put(_model("c"))
    state.endpoints.put(_ENDPOINT)
    state.instances.put(_INSTANCE)
    state.close()
    state = State(path)
    assert state.models.all() == [_model("m", Image="é", Tags=[{"Key": "k"}], Size=1 << 40)]
    assert state.configs.get("c") == _model("c")
    assert state.models.get("c") is None
    assert state.endpoints.all() == [_ENDPOINT]
    assert state.instances.get("i-1") == _INSTANCE
    state.close()


def test_a_record_replaces_that_of_its_name_and_can_be_removed(path: Path) -> None:
    state = State(path)
    for number in range(3):
        state.models.put(_model("m", Number=number))
        state.models.put(_model(f"n{number}"))
    state.models.remove("n1")
    state.models.remove("nobody")
    state.close()
    state = State(path)
    assert state.models.get("m") == _model("m", Number=2)
    assert {record.name for record in state.models.all()} == {"m", "n0", "n2"}
    state.close()


def test_what_is_kept_does_not_change_with_the_request(path: Path) -> None:
    state = State(path)
    request: dict[str, object] = {"Image": "before"}
    state.models.put(Definition("m", request, 1.0))
    request["Image"] = "after"
    kept = state.models.get("m")
    assert kept is not None
    assert kept.request == {"Image": "before"}
    state.close()


def test_a_record_that_could_not_be_read_again_is_not_written(path: Path) -> None:
    state = State(path)
    state.endpoints.put(_ENDPOINT)
    with pytest.raises(msgspec.ValidationError):
        state.endpoints.put(msgspec.structs.replace(_ENDPOINT, created=float("nan")))
    assert state.endpoints.all() == [_ENDPOINT]
    state.close()
    state = State(path)
    assert state.endpoints.all() == [_ENDPOINT]
    state.close()


def test_only_its_owner_can_read_the_file(path: Path) -> None:
    state = State(path)
    state.models.put(_model("m"))
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    state.close()


def _try(path: Path, answer: Connection) -> None:
    try:
        State(path).close()
    except StateError as error:
        answer.send((type(error).__name__, str(error)))
    else:
        answer.send(("opened", ""))


def _opened_elsewhere(path: Path) -> tuple[str, str]:
    ours, theirs = _PROCESSES.Pipe()
    child = _PROCESSES.Process(target=_try, args=(path, theirs))
    child.start()
    kind, text = ours.recv()
    child.join()
    child.close()
    return kind, text


def test_one_process_has_it_at_a_time(path: Path) -> None:
    state = State(path)
    kind, text = _opened_elsewhere(path)
    assert kind == "StateInUse"
    assert f"Another endpoint runs on {path.parent}" in text
    assert "MODELYARD_UP_DATA_DIR" in text
    with pytest.raises(StateInUse):
        State(path)
    assert _opened_elsewhere(path)[0] == "StateInUse"  # the lock has outlived that, too
    state.models.put(_model("m"))
    state.close()
    assert _opened_elsewhere(path) == ("opened", "")


def _write(path: Path, told: Connection, first: int) -> None:
    """Put and remove for ever, and tell what is done; two of three stay."""
    state = State(path)
    number = first
    while True:
        state.models.put(_model(f"m{number}", Number=number, Text="x" * (number % 5000)))
        told.send(("put", number))
        if number % 3 == 0:
            state.models.remove(f"m{number}")
            told.send(("removed", number))
        number += 1


def test_what_was_acknowledged_survives_a_kill(path: Path) -> None:
    there: set[int] = set()
    for round in range(8):
        ours, theirs = _PROCESSES.Pipe(duplex=False)
        writer = _PROCESSES.Process(target=_write, args=(path, theirs, round * 10_000))
        writer.start()
        theirs.close()
        for _ in range(40 + 17 * round):
            _note(there, *ours.recv())
        writer.kill()
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        while ours.poll():
            try:
                _note(there, *ours.recv())
            except EOFError:
                break
        _check(path, there)
    assert len(there) > 300


def _note(there: set[int], done: str, number: int) -> None:
    if done == "put":
        there.add(number)
    else:
        there.remove(number)


def _check(path: Path, there: set[int]) -> None:
    """All that was told is there; of what was not, one step at most: it was under way."""
    state = State(path)
    found = {int(record.name[1:]) for record in state.models.all()}
    for record in state.models.all():
        number = int(record.name[1:])
        assert record == _model(f"m{number}", Number=number, Text="x" * (number % 5000))
    state.close()
    more, less = found - there, there - found
    assert len(more) + len(less) <= 1
    assert all(number % 3 == 0 for number in less)
    there |= more
    there -= less


def test_a_newer_file_is_refused_and_left_alone(path: Path) -> None:
    State(path).close()
    _alter(path, "PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(StateError, match=r"newer version of modelyard \(its schema is 99"):
        State(path)
    assert path.read_bytes() == before


def test_the_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    _alter(path, "CREATE TABLE mine (x)")
    before = path.read_bytes()
    with pytest.raises(StateError, match="another program's database"):
        State(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "data",
    [b"", b"not json", b"{}", b'{"name":"other","request":{},"created":1}', b"[" * 100_000, None],
    ids=["empty", "no-json", "no-record", "other-name", "deep", "text"],
)
def test_a_damaged_record_is_named_with_its_file(path: Path, data: bytes | None) -> None:
    state = State(path)
    state.models.put(_model("mine"))
    state.close()
    _alter(path, "UPDATE models SET record = ?", 7 if data is None else data)
    with pytest.raises(StateError, match="record of 'mine' in models") as failure:
        State(path)
    assert str(path) in str(failure.value)
    _alter(path, "DELETE FROM models")  # nobody holds the file after that
    State(path).close()


def test_a_damaged_file_is_named(path: Path) -> None:
    state = State(path)
    for number in range(300):
        state.models.put(_model(f"m{number}", Text="x" * 100))
    state.close()
    whole = path.read_bytes()
    for damaged in (
        b"no database at all" * 100,
        whole[: len(whole) // 2],
        whole[:4096] + b"\xff" * 8192 + whole[12288:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(StateError, match="is damaged") as failure:
            State(path)
        assert str(path) in str(failure.value)
        assert path.read_bytes() == damaged
    path.write_bytes(whole)
    state = State(path)
    assert len(state.models.all()) == 300
    state.close()


def test_a_place_where_it_cannot_be_is_an_error(path: Path) -> None:
    path.parent.write_text("a file")
    with pytest.raises(StateError, match="cannot be opened") as failure:
        State(path)
    assert str(path) in str(failure.value)
    path.parent.unlink()
    path.mkdir(parents=True)
    with pytest.raises(StateError, match="cannot be opened"):
        State(path)


def test_a_write_that_fails_changes_nothing(path: Path) -> None:
    answer, child_end = _PROCESSES.Pipe(duplex=False)
    child = _PROCESSES.Process(target=_fill_up, args=(path, child_end))
    child.start()
    message, kept = answer.recv()
    child.join()
    child.close()
    assert f"{path} cannot be written" in message
    state = State(path)
    assert {record.name for record in state.models.all()} == kept
    state.close()


def _fill_up(path: Path, answer: Connection) -> None:
    """Write until a limit of the process stops it, as a full disk would."""
    state = State(path)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    message = ""
    for number in range(100):
        try:
            state.models.put(_model(f"m{number}", Text="x" * 10_000))
        except StateError as error:
            message = str(error)
            break
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    kept = {record.name for record in state.models.all()}
    state.close()
    answer.send((message, kept))


def _alter(path: Path, statement: str, *values: object) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(statement, values)
    database.close()
