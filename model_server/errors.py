"""The one shape in which a failure crosses processes and reaches a client.

ServerError
 ├── BadRequest 400            ├── PayloadTooLarge 413       ├── ServerUnavailable 503
 ├── ModelNotFound 404         ├── HeadTooLarge 431          ├── ModelTimeout 504
 ├── RouteNotFound 404         ├── WorkerDied 500            └── OutOfMemory 507
 ├── MethodNotAllowed 405      ├── ModelBusy 503
 ├── RequestTimeout 408        ├── ModelFailed 503
 └── ModelExists 409           └── EnvironmentFailed 500

Errors of handlers (handlers.errors) and archives (archives.errors) travel as ``Problem`` too, so a
client sees one JSON shape:
``{"code": 404, "type": "ModelNotFoundException", "message": "what happened and what to do"}``.
"""

from __future__ import annotations

import msgspec

from archives.errors import ArchiveError, DiskFull, ExtractionError, Stopped
from handlers.errors import HandlerError


class Problem(msgspec.Struct, frozen=True, array_like=True):
    """A failure as data: HTTP status, a stable name, a sentence, and when to try again."""

    status: int
    kind: str
    message: str
    retry_after_seconds: float | None = None

    def body(self) -> bytes:
        """The JSON body that the client gets."""
        return msgspec.json.encode(
            {"code": self.status, "type": self.kind, "message": self.message}
        )


def problem_of_text(
    status: int, kind: str, message: str, retry_after_seconds: float | None = None
) -> Problem:
    """A problem whose message may come from anywhere: what is not UTF-8 is escaped."""
    clean = message.encode("utf-8", "backslashreplace").decode()
    return Problem(status, kind, clean, retry_after_seconds)


class ServerError(Exception):
    """A failure that has an HTTP answer."""

    status = 500
    kind = "InternalServerException"
    retry_after_seconds: float | None = None

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds

    def problem(self) -> Problem:
        """This error as data."""
        return problem_of_text(self.status, self.kind, self.message, self.retry_after_seconds)


class ProblemError(ServerError):
    """Raised for a problem that another process reported."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self._problem = problem
        self.status, self.kind = problem.status, problem.kind

    def problem(self) -> Problem:
        """The problem as reported."""
        return self._problem


class BadRequest(ServerError):
    """Raised when the request itself is wrong."""

    status, kind = 400, "BadRequestException"


class ModelNotFound(ServerError):
    """Raised when no model of that name is loaded."""

    status, kind = 404, "ModelNotFoundException"


class RouteNotFound(ServerError):
    """Raised for a path that is not part of the contract."""

    status, kind = 404, "RouteNotFoundException"


class MethodNotAllowed(ServerError):
    """Raised for a known path with another method. ``allow`` lists the right ones."""

    status, kind = 405, "MethodNotAllowedException"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class RequestTimeout(ServerError):
    """Raised when a client takes too long to send its request."""

    status, kind = 408, "RequestTimeoutException"


class ModelExists(ServerError):
    """Raised when a model of that name is loaded already."""

    status, kind = 409, "ConflictException"


class PayloadTooLarge(ServerError):
    """Raised when a request body is over the limit."""

    status, kind = 413, "PayloadTooLargeException"


class HeadTooLarge(ServerError):
    """Raised when a request line and its headers are over the limits."""

    status, kind = 431, "HeaderFieldsTooLargeException"


class WorkerDied(ServerError):
    """Raised when the process that handled a request is gone."""

    kind = "WorkerDiedException"


class ModelBusy(ServerError):
    """Raised when a model's queue is full."""

    status, kind = 503, "ModelBusyException"
    retry_after_seconds = 1.0


class ModelFailed(ServerError):
    """Raised when a model that was loaded cannot be brought back."""

    status, kind = 503, "ModelFailedException"


class EnvironmentFailed(ServerError):
    """Raised when the packages that a model asks for cannot be installed."""

    kind = "ModelLoadException"


class ServerUnavailable(ServerError):
    """Raised when the server cannot answer now: starting, stopping, or overloaded."""

    status, kind = 503, "ServiceUnavailableException"


class ModelTimeout(ServerError):
    """Raised when a load or a request passes its time limit."""

    status, kind = 504, "ModelTimeoutException"


class OutOfMemory(ServerError):
    """Raised when a model does not fit into memory."""

    status, kind = 507, "InsufficientMemoryException"


def problem_of(error: BaseException) -> Problem:
    """An error as data; of several at once, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case ServerError():
            return error.problem()
        case HandlerError():
            return problem_of_text(error.status, error.kind, error.message)
        case ArchiveError():
            return BadRequest(error.message).problem()
        case DiskFull():
            return problem_of_text(507, "InsufficientStorageException", error.message)
        case Stopped():
            return ServerUnavailable(error.message).problem()
        case ExtractionError():
            return ServerError(error.message).problem()
        case _:
            return ServerError(f"{type(error).__name__}: {error}").problem()
