"""What S3 and boto3 say of a failure, as what the endpoint's user can do about it."""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from urllib3.exceptions import HTTPError

from endpoint.objects.store import (
    AccessRefused,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)

# What boto3 raises: urllib3's and the socket's own come out of bodies, ValueError of a bad URL,
# RecursionError of a store that redirects for ever.
FAILURES = (ClientError, BotoCoreError, HTTPError, OSError, ValueError, RecursionError)

_NO_CREDENTIALS = (
    *(NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, ProfileNotFound),
    *(TokenRetrievalError, NoAuthTokenError, SSOError),
)
_OTHER_REGION = {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocation"}
_BAD_KEYS = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
    *("TokenRefreshRequired", "RequestTimeTooSkewed", "RequestExpired", "AuthFailure"),
}
_BUSY = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "TooManyRequests"}


def store_error(url: str, error: Exception) -> StoreError:
    """The failure of a request for ``url``, told for the user."""
    if isinstance(error, ClientError):
        return _of_answer(url, error)
    if isinstance(error, _NO_CREDENTIALS):
        return AccessRefused(
            f"{url}: there are no credentials ({error}); set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or what else boto3 reads"
        )
    if isinstance(error, ParamValidationError):
        return StoreError(f"{url} cannot be the name of a bucket or an object: {_first(error)}")
    if isinstance(error, RecursionError):
        return StoreError(f"{url}: the store redirects for ever; is MODELYARD_UP_REGION right?")
    if isinstance(error, ValueError):
        return StoreError(f"{url}: {error}")
    return StoreUnavailable(f"{url}: the store cannot be reached or breaks off: {_first(error)}")


def changed(url: str) -> ObjectChanged:
    """The object is no longer the one that was looked at."""
    return ObjectChanged(f"{url} was replaced while it was downloaded; try again")


def status_of(error: ClientError) -> int:
    """The HTTP status of an answer."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _of_answer(url: str, error: ClientError) -> StoreError:
    """What a store answers: by its code, or by the status where there is no body to say one."""
    status, code = status_of(error), str(error.response.get("Error", {}).get("Code", ""))
    if code == "NoSuchBucket":
        return ObjectMissing(f"{url}: there is no such bucket")
    if status in (412, 416):
        return changed(url)
    if code in _OTHER_REGION or status == 301:
        return StoreError(
            f"{url}: the bucket is in another region; MODELYARD_UP_REGION sets it ({error})"
        )
    if status >= 500 or status == 429 or code in _BUSY:
        return StoreUnavailable(f"{url}: the store has a fault or too much to do ({error})")
    if code == "InvalidObjectState":
        return AccessRefused(f"{url} is in an archive's storage class; restore it first ({error})")
    if code in _BAD_KEYS or status == 401:
        return AccessRefused(f"{url}: the store does not accept the credentials ({error})")
    if status == 403:
        return AccessRefused(
            f"{url}: access denied ({error}); the credentials need s3:GetObject, and "
            "s3:ListBucket, without which S3 denies also what is not there"
        )
    if status == 404:
        return ObjectMissing(f"there is no {url}")
    return StoreError(f"{url}: the store refuses the request ({error}); are region and keys right?")


def _first(error: Exception) -> str:
    """The first lines as one; tracebacks and wrapped errors may follow."""
    return " ".join(str(error).split())[:300] or type(error).__name__
