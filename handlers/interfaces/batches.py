"""Answers several requests by as few predictions as their inputs can be stacked into.

Each request is decoded and encoded by itself, with the context of its own, so a bad body fails
alone; only the prediction in between is shared.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from handlers.data.envelopes import Envelope
from handlers.errors import HandlerError
from handlers.interfaces.context import Context
from handlers.interfaces.stacking import kind_of, split, stack
from handlers.interfaces.user_errors import failure
from handlers.types import Request, Response

log = logging.getLogger("modelyard.handlers")

_NOTHING = object()  # no prediction yet; None is one


class Stacking:
    """The three steps of a model's answer, done for several requests together.

    ``allowed`` turns False once the model gave a prediction without one row for each of its input.
    """

    def __init__(
        self,
        context: Context,
        *,
        read: Callable[[Request], tuple[Any, Envelope | None]],
        predict: Callable[[Any], Any],
        write: Callable[[Request, Any, Envelope | None], Response],
    ) -> None:
        self._context = context
        self._read = read
        self._predict = predict
        self._write = write
        self.allowed = True

    def answer(self, batch: Sequence[Request]) -> list[Response | HandlerError]:
        """For each request, in order, its response or why there is none."""
        jobs = [_Job(request, self._context) for request in batch]
        for job in jobs:
            job.attempt(self._start)
        for group in _groups(jobs) if self.allowed else ():
            self._share(group)
        for job in jobs:
            job.attempt(self._finish)
        return [job.answer for job in jobs if job.answer is not None]

    def _start(self, job: _Job) -> None:
        job.data, job.envelope = self._read(job.request)

    def _share(self, group: Sequence[_Job]) -> None:
        """Predict once for a group. Where that fails, each of it is left to have its own."""
        try:
            prediction = self._predict(stack([job.data for job in group]))
        except Exception as error:
            log.warning("%d stacked requests failed, each goes alone: %r", len(group), error)
            return
        pieces = split(prediction, [job.data.shape[0] for job in group])
        if pieces is None:
            log.warning("predictions are not one a row: requests are not stacked any more")
            self.allowed = False
            return
        for job, piece in zip(group, pieces, strict=True):
            job.prediction = piece

    def _finish(self, job: _Job) -> None:
        if job.prediction is _NOTHING:
            job.prediction = self._predict(job.data)
        job.answer = self._write(job.request, job.prediction, job.envelope)


class _Job:
    """One request of a batch on its way."""

    def __init__(self, request: Request, context: Context) -> None:
        context.begin((request,))
        self._context, self._in_hand = context, context.in_hand
        self.request = request
        self.data: Any = None
        self.envelope: Envelope | None = None
        self.prediction: Any = _NOTHING
        self.answer: Response | HandlerError | None = None

    def attempt(self, step: Callable[[_Job], None]) -> None:
        """Do a step in this request's context, unless an earlier one failed."""
        if self.answer is not None:
            return
        self._context.in_hand = self._in_hand
        try:
            step(self)
        except Exception as error:
            self.answer = failure(error)


def _groups(jobs: Sequence[_Job]) -> list[list[_Job]]:
    """The requests whose inputs fit together, two or more in each group."""
    groups: dict[Hashable, list[_Job]] = {}
    for job in jobs:
        kind = kind_of(job.data) if job.answer is None else None
        if kind is not None:
            groups.setdefault(kind, []).append(job)
    return [group for group in groups.values() if len(group) > 1]
