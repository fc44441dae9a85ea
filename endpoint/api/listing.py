"""List operations: filters, order, pages.

A page's token says where the page before ended, so what comes and goes between two pages neither
repeats nor hides anything else.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from endpoint.errors import ValidationException

R = TypeVar("R")
Key = tuple[str | float, str]
Query = Mapping[str, Any]

# The platform says so for endpoints.
_PAGE = 10


@dataclass(frozen=True)
class Sortable(Generic[R]):
    """How records of a kind are looked at. Times are seconds since 1970."""

    name: Callable[[R], str]
    created: Callable[[R], float]
    modified: Callable[[R], float] | None = None
    status: Callable[[R], str] | None = None

    def key(self, record: R, sort_by: str) -> Key:
        """What the record is sorted by; names make it unique."""
        name = self.name(record)
        if sort_by == "CreationTime":
            return self.created(record), name
        if sort_by == "Status" and self.status is not None:
            return self.status(record), name
        return name, name

    def matches(self, record: R, query: Query) -> bool:
        """Whether no filter of the query leaves the record out."""
        if query.get("NameContains", "") not in self.name(record):
            return False
        if not _within(self.created(record), query, "CreationTime"):
            return False
        if self.modified and not _within(self.modified(record), query, "LastModifiedTime"):
            return False
        wanted = query.get("StatusEquals")
        return wanted is None or self.status is None or self.status(record) == wanted


def _within(time: float, query: Query, what: str) -> bool:
    after, before = query.get(f"{what}After"), query.get(f"{what}Before")
    return (after is None or time >= after) and (before is None or time < before)


def page(
    records: Sequence[R], query: Query, sortable: Sortable[R]
) -> tuple[list[R], dict[str, str]]:
    """The page that a query asks for, and NextToken if there is another one.

    Raises ValidationException for a token that is not of such a query.
    """
    sort_by = query.get("SortBy", "CreationTime")
    descending = query.get("SortOrder", "Descending") == "Descending"
    found = [
        (sortable.key(record, sort_by), record)
        for record in records
        if sortable.matches(record, query)
    ]
    found.sort(key=lambda pair: pair[0], reverse=descending)
    if "NextToken" in query:
        end = _end_of(query["NextToken"], sort_by, descending)
        found = [pair for pair in found if (pair[0] < end if descending else pair[0] > end)]
    size = query.get("MaxResults", _PAGE)
    shown, more = found[:size], found[size:]
    token = {"NextToken": _token(shown[-1][0], sort_by, descending)} if more else {}
    return [record for _, record in shown], token


class _Token(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    sort_by: str
    descending: bool
    end: tuple[str | float, str]


def _token(end: Key, sort_by: str, descending: bool) -> str:
    data = msgspec.json.encode(_Token(sort_by, descending, end))
    return base64.urlsafe_b64encode(data).decode()


def _end_of(text: str, sort_by: str, descending: bool) -> Key:
    try:
        token = msgspec.json.decode(base64.urlsafe_b64decode(text.encode()), type=_Token)
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise ValidationException("Invalid NextToken: it is not one of this endpoint.") from None
    of_time = isinstance(token.end[0], float)
    if (token.sort_by, token.descending, of_time) != (
        sort_by,
        descending,
        sort_by == "CreationTime",
    ):
        raise ValidationException("Invalid NextToken: SortBy and SortOrder must not change.")
    return token.end
