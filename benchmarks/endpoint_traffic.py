"""Zipf traffic on an endpoint by boto3, from several threads; every answer is kept."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from benchmarks.endpoint_up import Asked, Endpoint

THREADS = 8
EXPONENT = 1.1
LOOK_SECONDS = 2.0
OK = "200"


@dataclass(frozen=True)
class Answer:
    """``kind`` is 200, or what boto3 raised. Times are seconds since 1970."""

    target: str
    kind: str
    begin: float
    end: float

    @property
    def ms(self) -> float:
        return 1000 * (self.end - self.begin)


class Traffic:
    """Asks models, the first of them most, and looks at what happens in the endpoint meanwhile."""

    def __init__(self, endpoint: Endpoint, models: Sequence[Asked]) -> None:
        self._endpoint = endpoint
        self._models = models
        ranks = range(1, 1 + len(models))
        self._shares = list(itertools.accumulate(rank**-EXPONENT for rank in ranks))
        self.events: list[Any] = []

    def run(self, seconds: float, meanwhile: Callable[[], None]) -> list[Answer]:
        """What came back; ``meanwhile`` is called in the middle."""
        until = time.monotonic() + seconds
        over = threading.Event()
        with ThreadPoolExecutor(THREADS + 1) as pool:
            looking = pool.submit(self._look, over)
            asking = [pool.submit(self._ask, seed, until) for seed in range(THREADS)]
            time.sleep(seconds / 2)
            meanwhile()
            found = _all(asking)
            over.set()
            looking.result()
        return found

    def _ask(self, seed: int, until: float) -> list[Answer]:
        dice = random.Random(seed)
        found = []
        while time.monotonic() < until:
            (model,) = dice.choices(self._models, cum_weights=self._shares)
            begin = time.time()
            kind = self._kind(model)
            found.append(Answer(model.target, kind, begin, time.time()))
        return found

    def _kind(self, model: Asked) -> str:
        try:
            self._endpoint.invoke(model)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return f"{status} {error.response['Error']['Code']}"
        except BotoCoreError as error:
            return type(error).__name__
        return OK

    def _look(self, over: threading.Event) -> None:
        """The endpoint remembers its last events only."""
        number = 0
        while not over.wait(LOOK_SECONDS):
            number = self._look_once(number)
        self._look_once(number)

    def _look_once(self, number: int) -> int:
        new = self._endpoint.status(number)["events"]
        self.events += new
        return int(new[-1]["number"]) if new else number


def kinds(answers: Sequence[Answer]) -> Counter[str]:
    """How many there were of each kind."""
    return Counter(answer.kind for answer in answers)


def _all(asking: Sequence[Future[list[Answer]]]) -> list[Answer]:
    return [answer for one in asking for answer in one.result()]
