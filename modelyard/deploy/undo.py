"""What a deployment has begun is taken back, last thing first, when a later step fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from modelyard.deploy.problems import problem_of
from modelyard.say import say


class Undo:
    """Collects how to take things back."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def add(self, step: Callable[..., object], *arguments: Any, **named: Any) -> None:
        """Call it, should the deployment fail."""
        self._steps.append(lambda: step(*arguments, **named))

    def keep(self) -> None:
        """What there is so far is whole, and stays."""
        self._steps.clear()

    def run(self) -> None:
        """Take all back, as far as that can be done; says what stays."""
        if self._steps:
            say("taking back what was begun")
        while self._steps:
            try:
                self._steps.pop()()
            except (ClientError, BotoCoreError) as error:
                say(f"this stays: {problem_of(error)}")
