"""Memory as a balance sheet: one ledger for the host's RAM and one for each GPU."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20

RAM = "ram"


def gpu_ledger(index: int) -> str:
    """The name of a GPU's ledger."""
    return f"gpu{index}"


@dataclass(frozen=True, slots=True)
class Ledger:
    """Memory of one kind, in bytes.

    ``overhead_bytes`` is what the server itself takes (on a GPU: what others take), ``held_bytes``
    what models hold and have reserved, ``leaving_bytes`` what models on their way out still occupy.
    """

    name: str
    limit_bytes: int
    overhead_bytes: int
    held_bytes: int
    leaving_bytes: int = 0

    @property
    def free_bytes(self) -> int:
        """What a further model may take once those on their way out are gone; below 0: too full."""
        return self.limit_bytes - self.overhead_bytes - self.held_bytes

    @property
    def models_bytes(self) -> int:
        """What all models together may take."""
        return max(self.limit_bytes - self.overhead_bytes, 0)


def shown_bytes(count: float) -> str:
    """A size for people: MiB, or GiB with one digit from 10 GiB on."""
    if abs(count) >= 10 << 30:
        return f"{count / (1 << 30):.1f} GiB"
    return f"{count / MIB:.0f} MiB"


ADVICE = "Unload a model or raise the memory limit (MODELYARD_MEMORY_LIMIT_BYTES)"


def overrun(ledger: Ledger) -> str:
    """Why what models hold is more than there is, in words; empty when it is not."""
    if ledger.free_bytes >= 0:
        return ""
    return (
        f"models hold {shown_bytes(ledger.held_bytes)} of {ledger.name}, "
        f"{shown_bytes(-ledger.free_bytes)} more than there is besides the server's "
        f"{shown_bytes(ledger.overhead_bytes)}: the limit is {shown_bytes(ledger.limit_bytes)}"
    )
