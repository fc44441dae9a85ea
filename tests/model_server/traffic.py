"""A steady client: one request after another, each on a connection of its own, none retried."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType
from typing import Self

from ..contract.endpoint import path_of
from ..contract.polling import eventually
from ..contract.raw import post
from ..contract.server import OwnServer


class Traffic:
    """``outcomes`` counts statuses, and ``refused`` and ``cut`` for connections."""

    def __init__(
        self, own: OwnServer, name: str, *, clients: int = 4, body: bytes = b"steady"
    ) -> None:
        self._own = own
        self._wire = post(path_of(name) + "/invoke", body)
        self._stop = threading.Event()
        self.clients = clients
        self.outcomes: Counter[int | str] = Counter()
        self.messages: set[str] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_for_more(20)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def wait_for_more(self, count: int) -> None:
        """Wait until ``count`` more requests have succeeded."""
        wanted = self.outcomes[200] + count
        assert eventually(lambda: self.outcomes[200] >= wanted), self.outcomes

    @property
    def failed(self) -> int:
        """Requests that did not succeed."""
        return self.outcomes.total() - self.outcomes[200]

    def _run(self) -> None:
        while not self._stop.is_set():
            outcome = self._ask()
            with self._lock:
                self.outcomes[outcome] += 1

    def _ask(self) -> int | str:
        try:
            with self._own.connect() as connection:
                connection.send(self._wire)
                answer = connection.receive()
        except ConnectionRefusedError:
            return "refused"
        except (ConnectionError, TimeoutError):
            return "cut"
        if answer.status != 200:
            self.messages.add(answer.body.decode())
        return answer.status
