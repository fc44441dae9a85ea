"""What clients are told when a request cannot be done: code, HTTP status and members of each error.

ApiError
 ├── InvokeEndpoint                      ├── control plane
 │    ├── ValidationError 400            │    ├── ValidationException 400
 │    ├── ModelError 424                 │    ├── ResourceLimitExceeded 400
 │    ├── ModelNotReady 429              │    ├── UnknownOperation 400
 │    ├── ServiceUnavailable 503         │    └── SerializationException 400
 │    └── InternalDependency 530         └── both
 │                                            ├── InternalFailure 500
 │                                            ├── NoSuchRoute 404
 │                                            ├── AccessDenied 403
 │                                            └── BadSignature 403, UnknownKey 403, NoSignature 403
 └── CloudWatch (with ValidationError and those of both)
      ├── InvalidParameterValue 400, InvalidParameterCombination 400
      └── MissingParameter 400, InvalidNextToken 400
"""

from __future__ import annotations

from typing import Any

# The longest that the service's model allows.
MAX_MESSAGE = 2048

CLIENT_ERROR, SERVER_ERROR = "CLIENT_ERROR_FROM_MODEL", "INTERNAL_FAILURE_FROM_MODEL"


class ApiError(Exception):
    """A failure that has an answer. ``code`` goes into the header ``x-amzn-errortype``."""

    status = 500
    code = "InternalFailure"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def members(self) -> dict[str, Any]:
        """The answer's JSON body."""
        return {"Message": _sendable(self.message)}


def _sendable(text: str) -> str:
    """It may quote what a client or a container sent, which need not be text."""
    return text[:MAX_MESSAGE].encode(errors="replace").decode()


class ValidationError(ApiError):
    """Raised for an invoke that is wrong in itself, or whose endpoint or model is not there."""

    status, code = 400, "ValidationError"


class ModelNotReady(ApiError):
    """Raised when a model's load takes longer than an invoke may; it goes on, so try again."""

    status, code = 429, "ModelNotReadyException"


class InternalFailure(ApiError):
    """Raised for a fault of the endpoint itself."""


class ServiceUnavailable(ApiError):
    """Raised when there is no instance to take the request now."""

    status, code = 503, "ServiceUnavailable"


class InternalDependency(ApiError):
    """Raised when the object store does not do its part."""

    status, code = 530, "InternalDependencyException"


class ModelError(ApiError):
    """Raised for what a container answered instead of a result; status 0: it did not answer."""

    status, code = 424, "ModelError"

    def __init__(self, message: str, *, original_status: int, original: str, log: str = "") -> None:
        super().__init__(message)
        self.original_status = original_status
        self.original = original
        self.log = log

    def members(self) -> dict[str, Any]:
        """With the container's own words beside the message."""
        from_client = 400 <= self.original_status < 500
        return {
            **super().members(),
            "ErrorCode": CLIENT_ERROR if from_client else SERVER_ERROR,
            "OriginalStatusCode": self.original_status,
            "OriginalMessage": _sendable(self.original),
            "LogStreamArn": self.log,
        }


class AccessDenied(ApiError):
    """Raised for a request that its key may not make."""

    status, code = 403, "AccessDeniedException"


class NoSignature(ApiError):
    """Raised for a request without a signature, where one is asked for."""

    status, code = 403, "MissingAuthenticationTokenException"


class UnknownKey(ApiError):
    """Raised for a signature with a key that nobody has."""

    status, code = 403, "UnrecognizedClientException"


class BadSignature(ApiError):
    """Raised for a signature that is not that of its key, or too old."""

    status, code = 403, "InvalidSignatureException"


class ValidationException(ApiError):
    """Raised for a control-plane request that is wrong, or about something that is not there."""

    status, code = 400, "ValidationException"


class ResourceLimitExceeded(ApiError):
    """Raised when there is not enough of something for what is asked."""

    status, code = 400, "ResourceLimitExceeded"


class UnknownOperation(ApiError):
    """Raised for an operation that this endpoint does not do."""

    status, code = 400, "UnknownOperationException"


class SerializationException(ApiError):
    """Raised for a control-plane request that cannot be read: not JSON, or of other types."""

    status, code = 400, "SerializationException"


class NoSuchRoute(ApiError):
    """Raised for a method and path that belong to none of the APIs."""

    status, code = 404, "UnknownOperationException"


class InvalidParameterValue(ApiError):
    """Raised for a value that CloudWatch's operations do not take."""

    status, code = 400, "InvalidParameterValueException"


class InvalidParameterCombination(ApiError):
    """Raised for parameters of CloudWatch that exclude each other, or ask for too much together."""

    status, code = 400, "InvalidParameterCombinationException"


class MissingParameter(ApiError):
    """Raised for a request to CloudWatch without a parameter that it must have."""

    status, code = 400, "MissingRequiredParameterException"


class InvalidNextToken(ApiError):
    """Raised for a token of CloudWatch that is none, or of another request."""

    status, code = 400, "InvalidNextToken"
