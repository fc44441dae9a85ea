"""Requests as many clients send them: some models are asked for often, most of them seldom.

The popularity follows Zipf's law. Each thread sends a request, waits for the answer, checks it, and
rests a little.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from botocore.exceptions import BotoCoreError, ClientError

from examples.demo.client import Endpoint, told
from examples.demo.models import CONTENT_TYPE, Model, patients

_EXPONENT = 1.5
_SEED = 7


@dataclass(frozen=True)
class Request:
    """One that was answered or failed. Times are seconds since the epoch."""

    target: str
    begin: float
    end: float
    error: str = ""

    @property
    def seconds(self) -> float:
        """How long the client waited."""
        return self.end - self.begin


def ask(endpoint: Endpoint, model: Model, patient_count: int = 1) -> Request:
    """Send one request and check the answer."""
    body = patients(patient_count)
    begin = time.time()
    try:
        answer = endpoint.invoke(model.target, body, CONTENT_TYPE)
        error = model.check(answer, patient_count)
    except ClientError as failed:
        error = told(failed)
    except (BotoCoreError, ValueError) as failed:
        error = f"{type(failed).__name__}: {failed}"
    return Request(model.target, begin, time.time(), error)


class Traffic:
    """Threads that ask, as long as the ``with`` block runs."""

    def __init__(
        self,
        endpoint: Endpoint,
        models: Mapping[str, Model],
        *,
        threads: int,
        rest_seconds: float,
        patient_count: int = 1,
    ) -> None:
        """``models`` by TargetModel, the most popular first."""
        self.requests: list[Request] = []
        self._endpoint = endpoint
        self._models = dict(models)
        self._rest_seconds = rest_seconds
        self._patient_count = patient_count
        self._stop = threading.Event()
        self._asked: dict[int, str] = {}  # which thread waits for which model
        self._threads = [
            threading.Thread(target=self._run, args=[number], daemon=True)
            for number in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def add(self, model: Model) -> None:
        """From now on this one is asked for, too, and more than all others."""
        self._models = {model.target: model, **self._models}

    def remove(self, target: str) -> None:
        """It is asked for no more when this returns."""
        self._models = {name: model for name, model in self._models.items() if name != target}
        while target in self._asked.values():
            time.sleep(0.01)

    @property
    def errors(self) -> list[str]:
        """Of all requests that failed."""
        return [request.error for request in self.requests if request.error]

    def _run(self, number: int) -> None:
        dice = random.Random(_SEED + number)
        while not self._stop.is_set():
            model = self._pick(dice)
            self._asked[number] = model.target
            if model.target in self._models:  # it may just have been removed
                self.requests.append(ask(self._endpoint, model, self._patient_count))
            del self._asked[number]
            self._stop.wait(dice.expovariate(1 / self._rest_seconds) if self._rest_seconds else 0)

    def _pick(self, dice: random.Random) -> Model:
        models = list(self._models.values())
        weights = [1 / rank**_EXPONENT for rank in range(1, len(models) + 1)]
        return dice.choices(models, weights)[0]
