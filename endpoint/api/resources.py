"""Records of one kind under the platform's rules: what is there, what is not, and their ARNs."""

from __future__ import annotations

from typing import Any, Generic

import msgspec

from endpoint.errors import ValidationException
from endpoint.names import CONFIG, ENDPOINT, MODEL, Names
from endpoint.state import R, Table

# Messages begin with these words; SDKs and infrastructure tools look for them.
_WORDS = {MODEL: "model", CONFIG: "endpoint configuration", ENDPOINT: "endpoint"}


class Resources(Generic[R]):
    """Models, endpoint configurations or endpoints."""

    def __init__(self, table: Table[R], kind: str, names: Names) -> None:
        self.table = table
        self.kind = kind
        self._names = names

    def arn(self, name: str) -> str:
        """What the resource is called outside."""
        return self._names.arn(self.kind, name)

    def get(self, name: str) -> R:
        """The record. Raises ValidationException, which waiters take for "it is gone"."""
        record = self.table.get(name)
        if record is None:
            raise ValidationException(f'Could not find {_WORDS[self.kind]} "{self.arn(name)}".')
        return record

    def refuse_existing(self, name: str) -> None:
        """Raise ValidationException for a name that is taken."""
        if self.table.get(name) is not None:
            raise ValidationException(
                f'Cannot create already existing {_WORDS[self.kind]} "{self.arn(name)}".'
            )

    def change(self, name: str, **members: Any) -> None:
        """Put other members into the record. Raises ValidationException if it is not there."""
        self.table.put(msgspec.structs.replace(self.get(name), **members))

    def remove(self, name: str) -> None:
        """Forget the record. Raises ValidationException if it is not there."""
        self.get(name)
        self.table.remove(name)
