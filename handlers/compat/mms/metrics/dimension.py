"""A name and a value that a metric carries."""

from __future__ import annotations


class Dimension:
    """One dimension of a metric."""

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self.value = value

    def __str__(self) -> str:
        return f"{self.name}-{self.value}"

    def to_dict(self) -> dict[str, str]:
        """Both under their names."""
        return {"name": self.name, "value": self.value}
