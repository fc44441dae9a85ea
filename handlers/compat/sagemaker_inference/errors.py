"""The exceptions of sagemaker-inference; ``status_code`` is what the client gets."""

from __future__ import annotations


class UnsupportedFormatError(Exception):
    """Raised for a content type that the default functions do not know."""

    def __init__(self, content_type: object) -> None:
        super().__init__(
            f"Content type {content_type} is not supported. Give the model an input_fn to read "
            "it, or an output_fn to write it."
        )


class BaseInferenceToolkitError(Exception):
    """Raised by a model's code to choose the status and the text of the answer."""

    def __init__(self, status_code: int, message: str, phrase: str) -> None:
        super().__init__(status_code, message, phrase)
        self.status_code = status_code
        self.message = message
        self.phrase = phrase


class GenericInferenceToolkitError(BaseInferenceToolkitError):
    """The same, with defaults for the texts."""

    def __init__(
        self, status_code: int, message: str | None = None, phrase: str | None = None
    ) -> None:
        message = message or "Invalid Request"
        super().__init__(status_code, message, phrase or message)
