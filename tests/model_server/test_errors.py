"""One tree of errors, one shape of a problem."""

from __future__ import annotations

import json

import msgspec
import pytest

from archives.errors import ArchiveError, DiskFull, ExtractionError, Stopped
from model_server import errors
from model_server.errors import Problem, ProblemError, ServerError

TREE = [
    found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, ServerError) and found is not ProblemError
]


def made(kind: type[ServerError]) -> ServerError:
    if issubclass(kind, errors.MethodNotAllowed):
        return kind("what happened", allow="GET")
    return kind("what happened")


@pytest.mark.parametrize("kind", TREE)
def test_each_error_is_a_problem_with_a_status_a_name_and_its_message(
    kind: type[ServerError],
) -> None:
    problem = made(kind).problem()
    assert 400 <= problem.status < 600
    assert problem.kind.endswith("Exception")
    assert problem.message == "what happened" == str(made(kind))


@pytest.mark.parametrize("kind", TREE)
def test_the_docstring_of_the_module_says_the_status_of_each_error(kind: type[ServerError]) -> None:
    assert errors.__doc__ is not None
    if kind is not ServerError:
        assert f"{kind.__name__} {kind.status}" in errors.__doc__


def test_only_out_of_memory_is_507_and_only_a_conflict_409() -> None:
    """The platform acts on these two."""
    assert [kind for kind in TREE if kind.status == 507] == [errors.OutOfMemory]
    assert [kind for kind in TREE if kind.status == 409] == [errors.ModelExists]


def test_a_problem_is_json_for_the_client() -> None:
    body = json.loads(Problem(503, "BusyException", 'say "when"\n', 2.0).body())
    assert body == {"code": 503, "type": "BusyException", "message": 'say "when"\n'}


def test_a_problem_comes_through_a_process_boundary_unchanged() -> None:
    problem = Problem(503, "BusyException", "später", 2.5)
    over = msgspec.msgpack.decode(msgspec.msgpack.encode(problem), type=Problem)
    raised = ProblemError(over)
    assert raised.problem() == problem
    assert (raised.status, raised.kind, raised.message) == (503, "BusyException", "später")


def test_when_to_try_again_can_be_said_for_each_error() -> None:
    assert errors.ModelBusy("busy").problem().retry_after_seconds == 1.0
    assert errors.ModelFailed("no", retry_after_seconds=9).problem().retry_after_seconds == 9
    assert errors.ModelFailed("no").problem().retry_after_seconds is None


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ArchiveError("so it is"), 400, "BadRequestException"),
        (DiskFull("so it is"), 507, "InsufficientStorageException"),
        (Stopped("so it is"), 503, "ServiceUnavailableException"),
        (ExtractionError("so it is"), 500, "InternalServerException"),
    ],
)
def test_an_archive_that_cannot_be_extracted_is_a_problem_too(
    error: ExtractionError, status: int, kind: str
) -> None:
    assert errors.problem_of(error) == Problem(status, kind, "so it is")
