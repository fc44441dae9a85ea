"""Everything a handler can fail with, each with the HTTP status the client sees.

HandlerError
 ├── ModelLoadError          the directory cannot become a model (500, or what the author chose)
 ├── InvalidInput            the body does not fit the model (400)
 ├── UnsupportedContentType  nobody here can decode that content type (415)
 ├── NotAcceptable           nobody here can encode what was asked for (406)
 ├── InvalidOutput           the model's code returned something that cannot be sent (500)
 ├── PredictionFailed        the model's code raised (500, 507 for lack of memory, or its own code)
 ├── DeviceOutOfMemory       the model's GPU had too little memory for a request (507)
 └── ParkingFailed           the model's memory on its GPU could not be released, or not come back

Exceptions stay inside the worker process; what crosses to the gateway is ``kind``, ``status`` and
the message, never a traceback.
"""

from __future__ import annotations


class HandlerError(Exception):
    """An error with a message for the client. ``status`` is HTTP, ``kind`` a stable name."""

    status = 500
    kind = "InternalServerException"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if status is not None:
            self.status = status


class ModelLoadError(HandlerError):
    """Raised when a model directory cannot be loaded."""

    kind = "ModelLoadException"


class InvalidInput(HandlerError):
    """Raised when a request body cannot be decoded as its content type says."""

    status = 400
    kind = "BadRequestException"


class UnsupportedContentType(HandlerError):
    """Raised when no decoder exists for the request's content type."""

    status = 415
    kind = "UnsupportedMediaTypeException"


class NotAcceptable(HandlerError):
    """Raised when no encoder exists for any type in the request's Accept header."""

    status = 406
    kind = "NotAcceptableException"


class InvalidOutput(HandlerError):
    """Raised when the model's own code returns something that cannot become a response."""

    kind = "InvalidModelOutputException"


class PredictionFailed(HandlerError):
    """Raised in place of what the model's own code raised while it handled a request."""

    kind = "PredictionException"


class DeviceOutOfMemory(HandlerError):
    """Raised in place of what a model raised for lack of memory on its device.

    The server may make room there and try again, which helps nobody where the host was short.
    """

    status = 507
    kind = "DeviceOutOfMemoryException"


class ParkingFailed(HandlerError):
    """Raised when a model could not be parked, or not be brought back."""

    kind = "ParkingException"
