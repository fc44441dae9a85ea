"""Who asks, and may they: AWS Signature Version 4 with configured keys, and what each may do.

The access file, read once at the start:

    {"keys": [{"access_key_id": "AK1", "secret_access_key": "...",
               "actions": ["sagemaker:InvokeEndpoint"], "target_models": ["company_a/*"]}]}

``actions`` are as in IAM policies, ``sagemaker:`` or ``cloudwatch:`` and an operation (here also
``sagemaker:GetStatus``, for GET /status);
``target_models`` are as its condition ``StringLike`` on ``sagemaker:TargetModel``, which only
InvokeEndpoint has: without ``actions`` such a key may invoke and nothing else. Without either,
everything is allowed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Self
from urllib.parse import quote

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from endpoint.api.passwords import login_of
from endpoint.errors import AccessDenied, BadSignature, NoSignature, UnknownKey
from endpoint.names import Names
from endpoint.settings import EndpointSettings, SettingsError

SERVICE = "sagemaker"
MONITORING = "monitoring"  # what requests to CloudWatch are signed for
_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    rf"{_ALGORITHM} Credential=(?P<key>[^/,\s]+)/(?P<date>\d{{8}})/(?P<region>[^/,\s]+)/"
    r"(?P<service>[^/,\s]+)/aws4_request,\s*SignedHeaders=(?P<signed>[^,\s]+),\s*"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)
_TIME_FORMAT = "%Y%m%dT%H%M%SZ"
_SKEW_SECONDS = 15 * 60

# Proxies add it on the way.
_NEVER_SIGNED = "x-amzn-trace-id"

# Hashing more than this would hold up other requests.
_HASHED_ON_THE_LOOP = 1 << 20


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature is made of, but for the body; ``target`` is path and query, as sent."""

    method: str
    target: str
    headers: CIMultiDict[str] | CIMultiDictProxy[str]


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """A key in the access file."""

    access_key_id: str
    secret_access_key: str
    actions: list[str] | None = None
    target_models: list[str] | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[_Entry]


@dataclass(frozen=True, slots=True)
class Key:
    """A key that a request was signed with; None of patterns: everything is allowed."""

    user: str
    secret: str = field(repr=False)
    actions: re.Pattern[str] | None = None
    target_models: re.Pattern[str] | None = None

    def authorize(
        self,
        operation: str,
        resource: str,
        target_model: str | None = None,
        *,
        prefix: str = SERVICE,
    ) -> None:
        """Raise AccessDenied unless it may; ``target_model`` counts for InvokeEndpoint only.

        ``prefix`` is that of the service's actions.
        """
        action = f"{prefix}:{operation}"
        allowed = _matches(self.actions, action)
        if operation == "InvokeEndpoint":
            allowed = allowed and _matches(self.target_models, target_model)
        if not allowed:
            raise AccessDenied(
                f"User: {self.user} is not authorized to perform: {action} on resource: {resource} "
                f"because no identity-based policy allows the {action} action"
            )


ANYBODY = Key(user="anybody", secret="")


@dataclass(frozen=True, slots=True)
class Claim:
    """Whose request it says it is: all but the signature has been looked at."""

    key: Key
    request: Signed
    found: re.Match[str] | None  # None: nothing needs to be signed

    async def proved(self, body: bytes) -> Key:
        """The key that has signed the request. Raises BadSignature."""
        if self.found is None:
            return self.key
        to_sign = _string_to_sign(self.request, self.found, await _hash(body))
        signing = _signing_key(
            self.key.secret, self.found["date"], self.found["region"], self.found["service"]
        )
        expected = _sign(signing, to_sign).hex()
        if not hmac.compare_digest(expected, self.found["signature"]):
            raise BadSignature(
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method."
            )
        return self.key


class Access:
    """The keys of the access file; without one, every request is accepted."""

    def __init__(
        self, keys: dict[str, Key] | None, region: str, clock: Callable[[], float]
    ) -> None:
        self._keys = keys
        self._region = region
        self._clock = clock

    @classmethod
    def load(cls, settings: EndpointSettings, clock: Callable[[], float]) -> Self:
        """Read the file that the settings name, if any.

        Raises SettingsError, also where whoever reaches the host would be let in unasked.
        """
        if not settings.access_file:
            _check_host(settings)
            return cls(None, settings.region, clock)
        names = Names(settings.region, settings.account)
        keys = {
            entry.access_key_id: Key(
                user=names.user(entry.access_key_id),
                secret=entry.secret_access_key,
                actions=_any_of(_actions(entry), re.IGNORECASE),
                target_models=_any_of(entry.target_models),
            )
            for entry in _entries(Path(settings.access_file))
        }
        return cls(keys, settings.region, clock)

    def claim(self, request: Signed, service: str = SERVICE, *, passwords: bool = False) -> Claim:
        """Look at all that can be checked without the body, which need not be read for nobody.

        ``service`` is what the request must be signed for. With ``passwords`` it need not be signed
        if it has the key's id and secret as HTTP Basic does.
        Raises NoSignature, UnknownKey or BadSignature.
        """
        if self._keys is None:
            return Claim(ANYBODY, request, None)
        given = request.headers.get("Authorization")
        if given is None:
            raise NoSignature("Missing Authentication Token: this endpoint takes signed requests.")
        if passwords and (login := login_of(given)) is not None:
            return Claim(self._logged_in(*login), request, None)
        found = _AUTHORIZATION.fullmatch(given)
        if found is None:
            raise BadSignature(f"Authorization header is not that of {_ALGORITHM}.")
        key = self._keys.get(found["key"])
        if key is None:
            raise UnknownKey("The security token included in the request is invalid.")
        self._check_scope(found, service)
        self._check_time(_time(request), found["date"])
        _check_signed(request, _names(found))
        return Claim(key, request, found)

    def _logged_in(self, access_key_id: str, secret: str) -> Key:
        assert self._keys is not None
        key = self._keys.get(access_key_id)
        expected = "" if key is None else key.secret
        # Also where there is no such key: how long it takes is not to tell.
        same = hmac.compare_digest(secret.encode(), expected.encode())
        if key is None or not same:
            raise UnknownKey("No key has this access key id and this secret access key.")
        return key

    def _check_scope(self, found: re.Match[str], service: str) -> None:
        if found["region"] != self._region:
            raise BadSignature(
                f"Credential should be scoped to a valid region, not '{found['region']}': this "
                f"endpoint is in {self._region}."
            )
        if found["service"] != service:
            raise BadSignature(f"Credential should be scoped to correct service: '{service}'.")

    def _check_time(self, time: str, scope_date: str) -> None:
        try:
            signed_at = datetime.strptime(time, _TIME_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            raise BadSignature(f"X-Amz-Date '{time}' is not a date such as {_shown(0)}.") from None
        if time[:8] != scope_date:
            raise BadSignature(
                f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date "
                f"from HTTP: '{scope_date}' != '{time[:8]}', from '{time}'."
            )
        now = self._clock()
        if signed_at.timestamp() < now - _SKEW_SECONDS:
            raise BadSignature(
                f"Signature expired: {time} is now earlier than {_shown(now - _SKEW_SECONDS)} "
                f"({_shown(now)} - 15 min.)"
            )
        if signed_at.timestamp() > now + _SKEW_SECONDS:
            raise BadSignature(
                f"Signature not yet current: {time} is still later than "
                f"{_shown(now + _SKEW_SECONDS)} ({_shown(now)} + 15 min.)"
            )


def _check_host(settings: EndpointSettings) -> None:
    if settings.open_to_all or is_for_its_machine(settings):
        return
    raise SettingsError(
        f"host={settings.host!r}: whoever reaches it could run commands and read files as this "
        "user; give an access_file, or open_to_all=true if that is meant"
    )


def is_for_its_machine(settings: EndpointSettings) -> bool:
    """Whether only the machine reaches it that it runs on, be it in a container."""
    try:
        is_loopback = ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        is_loopback = settings.host == "localhost"
    return is_loopback or settings.published_on_loopback


def _entries(path: Path) -> list[_Entry]:
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=_File).keys
    except OSError as error:
        raise SettingsError(f"access_file={path}: it cannot be read ({error.strerror})") from error
    except msgspec.DecodeError as error:
        raise SettingsError(f"access_file={path}: {error}") from error
    ids = [entry.access_key_id for entry in entries]
    for id in ids:
        if not re.fullmatch(r"[^/,\s]+", id) or ids.count(id) > 1:
            raise SettingsError(f"access_file={path}: access_key_id {id!r} is empty, odd or twice")
    return entries


def _actions(entry: _Entry) -> list[str] | None:
    if entry.actions is None and entry.target_models is not None:
        return [f"{SERVICE}:InvokeEndpoint"]
    return entry.actions


def _matches(patterns: re.Pattern[str] | None, text: str | None) -> bool:
    """Where there are patterns, what is not there matches none."""
    return patterns is None or (text is not None and patterns.fullmatch(text) is not None)


def _any_of(patterns: list[str] | None, flags: int = 0) -> re.Pattern[str] | None:
    """``*`` stands for any characters and ``?`` for one, as in IAM's StringLike."""
    if patterns is None:
        return None
    if not patterns:
        return re.compile(r"(?!)")
    wild = {"*": ".*", "?": "."}
    texts = ("".join(wild.get(c, re.escape(c)) for c in pattern) for pattern in patterns)
    return re.compile("|".join(texts), flags | re.DOTALL)


def _time(request: Signed) -> str:
    return request.headers.get("X-Amz-Date", "")


def _names(found: re.Match[str]) -> list[str]:
    """Of the headers that are signed."""
    return found["signed"].split(";")


def _check_signed(request: Signed, signed: list[str]) -> None:
    """Raise BadSignature where the request says more than what was signed."""
    for name in ("host", *map(str.lower, request.headers)):
        needed = name == "host" or (name.startswith("x-amz") and name != _NEVER_SIGNED)
        if needed and name not in signed:
            raise BadSignature(f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")


def _string_to_sign(request: Signed, found: re.Match[str], body_hash: str) -> str:
    signed = _names(found)
    path, _, query = request.target.partition("?")
    headers = (f"{name}:{_header(request, name)}\n" for name in signed)
    canonical = "\n".join(
        (
            request.method,
            quote(path, safe="/~"),
            "&".join(sorted(query.split("&"))),
            "".join(headers),
            ";".join(signed),
            body_hash,
        )
    )
    digest = hashlib.sha256(canonical.encode(errors="surrogateescape")).hexdigest()
    scope = f"{found['date']}/{found['region']}/{found['service']}/aws4_request"
    return "\n".join((_ALGORITHM, _time(request), scope, digest))


def _header(request: Signed, name: str) -> str:
    return ",".join(" ".join(value.split()) for value in request.headers.getall(name, ()))


async def _hash(body: bytes) -> str:
    if len(body) > _HASHED_ON_THE_LOOP:
        return (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
    return hashlib.sha256(body).hexdigest()


@lru_cache(maxsize=1024)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = _sign(key, part)
    return key


def _sign(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(_TIME_FORMAT)
