"""What clients are told of a container's answers and of a store's, in the platform's words."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from archives.errors import ArchiveError, DiskFull
from endpoint.errors import ApiError, InternalDependency, InternalFailure, ModelError
from endpoint.errors import ValidationError as Invalid
from endpoint.instances.container_client import FULL, Answer
from endpoint.objects.store import ObjectChanged, StoreError, StoreUnavailable

# Of a container's answer, in a message that has room for more than that.
_QUOTED = 1200


class DoesNotFit(ModelError):
    """Raised for a model that has no room even in an empty container."""


@dataclass(frozen=True, slots=True)
class Words:
    """Makes the errors of one variant's containers. ``container`` is what messages call them."""

    container: str
    log_arn: str
    log_place: str

    def answered(self, answer: Answer) -> ModelError:
        """A container answered with an error status."""
        side = "client" if 400 <= answer.status < 500 else "server"
        said = self._quoted(answer)
        return self._error(
            f"Received {side} error ({answer.status}) from {self.container} {said}",
            answer.status,
            answer.text,
        )

    def timed_out(self, what: str) -> ModelError:
        """A container did not answer in time."""
        text = (
            f"Your invocation timed out while waiting for a response from container "
            f"{self.container}: {what}"
        )
        return self._error(f'Received server error (0) from {self.container} with message "{text}"')

    def lost(self, reason: str) -> ModelError:
        """An instance was lost while it had a request that is not sent again."""
        return self._error(f"{self.container} could not get a response from the endpoint: {reason}")

    def not_usable(self, problem: str, status: int | None) -> ModelError:
        """A container answered something that cannot be handed on."""
        return self._error(
            f"Received an unusable answer from {self.container}: {problem}", status or 0, problem
        )

    def no_memory(self, target: str, said: str, *, alone: bool) -> ModelError:
        """A model does not fit, and there is nobody to unload for it; ``alone``: nobody at all."""
        more = (
            ": no other is loaded. It needs a larger instance, or must be smaller" if alone else ""
        )
        return self._error(
            f"Received server error (507) from {self.container}: there is no memory for {target}, "
            f'and no unused model to unload{more}. It said "{said[:_QUOTED]}"',
            FULL,
            said,
            kind=DoesNotFit if alone else ModelError,
        )

    def of_files(self, error: Exception, url: str) -> ApiError:
        """A model could not be brought to the disk."""
        match error:
            case StoreUnavailable() | ObjectChanged():
                return InternalDependency(f"The object store failed for {url}: {error}")
            case StoreError():
                return Invalid(
                    f"Failed to download model data({_place(url)}). Please ensure that there is "
                    "an object located at the URL and that the role passed to CreateModel has "
                    f"permissions to download the model. ({error})"
                )
            case ArchiveError():
                return Invalid(
                    f"Failed to extract model data archive from {url}. Please ensure that the "
                    f"object located at the URL is a valid tar.gz archive. ({error})"
                )
            case DiskFull():
                return self._error(f"No space for {url}: {error}", FULL)
            case _:
                return InternalFailure(f"{url} could not be made ready: {error}")

    def _error(
        self,
        message: str,
        status: int = 0,
        original: str = "",
        kind: type[ModelError] = ModelError,
    ) -> ModelError:
        full = f"{message}. See {self.log_place} for more information."
        return kind(full, original_status=status, original=original, log=self.log_arn)

    def _quoted(self, answer: Answer) -> str:
        text = answer.text
        if len(text) > _QUOTED or "\ufffd" in text:
            return "and could not load the entire response body"
        return f'with message "{text}"'


def _place(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return f"bucket: {parts.netloc}, key: {parts.path.removeprefix('/')}"
    return url
