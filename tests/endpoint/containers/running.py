"""Starts stub containers as real child processes, gives them orders and asks what they saw.

    with started(room=2) as stub:                  # any of stub.Options
        stub.rule("load", "hang")                  # any of stub.Rule
        ...
        (request,) = stub.wait_for("load")         # returns once that many were seen
        stub.release()                             # all its rules are gone; what hangs goes on

As an instance of a ``local`` fleet: the command ``COMMAND``, and ``environment(...)`` for the
container's own variables. ``at(url)`` speaks to a stub that something else has started.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[3]
MODULE = "tests.endpoint.containers.stub"
COMMAND = shlex.join(["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", MODULE])

WAIT_SECONDS = 40.0


@dataclass(frozen=True)
class Seen:
    """A request that a stub got. ``on`` is what ``Rule.on`` calls it."""

    on: str
    model: str
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: str

    def header(self, name: str) -> str | None:
        """The value of the first header of that name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Stub:
    """A running stub; ``process`` is None if something else started it."""

    def __init__(self, url: str, process: subprocess.Popen[str] | None = None) -> None:
        self.url = url
        self.process = process

    def rule(self, on: str, do: str, **details: Any) -> None:
        """Add a rule; see ``stub.Rule``. The first that matches counts."""
        self._order("rule", {"on": on, "do": do, **details})

    def release(self, on: str = "*") -> None:
        """Drop all rules, or those with this ``on``; requests that hang for them go on."""
        self._order("release", on)

    def set(self, **options: Any) -> None:
        """Change some of ``stub.Options``."""
        self._order("options", options)

    def forget(self, model: str) -> None:
        """Lose a loaded model without having been asked to."""
        self._order("forget", model)

    def loaded(self) -> list[str]:
        """The ids of the models that really are loaded."""
        models: list[str] = self._order("loaded")
        return models

    def seen(self, on: str = "*") -> list[Seen]:
        """The requests so far, first to last."""
        return self._seen(on, count=0)

    def wait_for(self, on: str, count: int = 1) -> list[Seen]:
        """The requests, as soon as there are ``count`` of them."""
        found = self._seen(on, count=count)
        assert len(found) >= count, f"saw {len(found)} of {count} {on} in {WAIT_SECONDS} s"
        return found

    def exit(self, code: int) -> None:
        """Let it end by itself, with this code."""
        with suppress(httpx.TransportError):
            self._order("exit", code)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _seen(self, on: str, count: int) -> list[Seen]:
        query = f"seen?on={on}&count={count}&timeout={WAIT_SECONDS}"
        names = Seen.__dataclass_fields__
        return [Seen(**{name: each[name] for name in names}) for each in self._order(query)]

    def _order(self, what: str, content: Any = None) -> Any:
        """Tests give orders on the loop that they test, which must not stand still for long:
        certificates would take a quarter of a second to load."""
        url = f"{self.url}/_{what}"
        options: Any = {"timeout": 2 * WAIT_SECONDS, "trust_env": False, "verify": False}
        return httpx.post(url, json=content, **options).json()


def at(url: str) -> Stub:
    """A stub that something else, a fleet for instance, has started."""
    return Stub(url)


def environment(*, rules: Sequence[Mapping[str, Any]] = (), **options: Any) -> dict[str, str]:
    """The variables that give a stub these options and rules from its start."""
    variables = {
        f"STUB_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in options.items()
    }
    return {**variables, "STUB_RULES": json.dumps(list(rules))}


@contextmanager
def started(
    *, multi_model: bool = True, rules: Sequence[Mapping[str, Any]] = (), **options: Any
) -> Iterator[Stub]:
    """A stub on a free port, listening when the block begins and gone when it ends."""
    own = {
        "SAGEMAKER_BIND_TO_PORT": "0",
        "SAGEMAKER_MULTI_MODEL": str(multi_model).lower(),
        **environment(rules=rules, **options),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE],
        cwd=ROOT,
        env=os.environ | own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port, f"the stub ended at its start: {process.wait()}"
            yield Stub(f"http://127.0.0.1:{port}", process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
