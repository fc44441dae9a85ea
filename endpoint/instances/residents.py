"""The table of one instance's models in memory, on their way in, or on their way out.

For each target there is one that requests get, and perhaps another version that is to replace it;
those that were replaced are there until they have left.
"""

from __future__ import annotations

from collections.abc import Iterator

from endpoint.cache.disk_cache import Stored
from endpoint.instances.resident import Resident, Stage
from endpoint.objects.location import location


class Residents:
    """Who is there. Changed between awaits only."""

    def __init__(self, prefix: str) -> None:
        """``prefix`` is where the models' objects are."""
        self._prefix = prefix
        self._current: dict[str, Resident] = {}
        self._replacing: dict[str, Resident] = {}
        self._old: set[Resident] = set()
        self.listed: set[str] = set()  # ids of which the container says so at the start

    def __iter__(self) -> Iterator[Resident]:
        """All of them; they may change while one looks on."""
        return iter([*self._current.values(), *self._replacing.values(), *self._old])

    def get(self, target: str) -> Resident | None:
        """The one that requests get."""
        return self._current.get(target)

    def current(self) -> list[Resident]:
        """All that requests get."""
        return list(self._current.values())

    def begin(self, target: str) -> Resident:
        """The one that requests get; a new one, which is nowhere yet, if there is none."""
        found = self._current.get(target)
        if found is None:
            # A version on its way to replace one that has gone meanwhile is as good.
            found = self._replacing.get(target) or Resident(target, location(self._prefix, target))
            self._current[target] = found
        return found

    def begin_version(self, target: str) -> Resident:
        """A version that is to replace the one that requests get."""
        new = self._replacing[target] = Resident(target, location(self._prefix, target))
        return new

    def end_version(self, new: Resident, *, serve: bool) -> Resident | None:
        """It is there, or cannot be had; returns the one that it has replaced."""
        del self._replacing[new.target]
        if not serve:
            return None
        before = self._current.get(new.target)
        self._current[new.target] = new
        return None if before is new else before

    def drop(self, resident: Resident) -> None:
        """Requests do not get it any more."""
        if self._current.get(resident.target) is resident:
            del self._current[resident.target]

    def forget_if_out(self, resident: Resident) -> None:
        """Drop one that is not in memory, nor on its way."""
        if resident.stage is Stage.OUT and resident.arriving is None and resident.leaving is None:
            self.drop(resident)

    def retire(self, resident: Resident) -> None:
        """It was replaced, or its object has gone; it stays until its last request is done."""
        self.drop(resident)
        self._old.add(resident)

    def end(self, resident: Resident) -> None:
        """One that was retired has left."""
        self._old.discard(resident)

    def serves(self, stored: Stored) -> bool:
        """Whether a version is the one that requests get, or soon."""
        wanted = (*self._current.values(), *self._replacing.values())
        return any(one.stored and one.id == stored.id and one.holds_files for one in wanted)

    def ids(self) -> set[str]:
        """Of all that are on the disk."""
        return {one.id for one in self if one.stored is not None}

    def ids_in_use(self) -> set[str]:
        """Of those whose directories must stay."""
        used = {one.id for one in self if one.stored is not None and one.holds_files}
        return used | self.listed
