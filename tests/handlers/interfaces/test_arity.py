from __future__ import annotations

import functools
import logging
from typing import Any

import pytest

from handlers.errors import ModelLoadError
from handlers.interfaces.arity import Passing, user_function
from handlers.interfaces.context import Context

CONTEXT = Context(model_name="m", model_dir="/m")
TWO = ("data", "model")


class Callables:
    def method(self, data: Any, model: Any, context: Any) -> Any:
        return context

    def __call__(self, data: Any, model: Any) -> Any:
        return None


def takes_more(data: Any, model: Any, extra: Any, context: Any) -> Any:
    return context


@functools.wraps(takes_more)
def wrapped(*args: Any) -> Any:
    return takes_more(*args)


@pytest.mark.parametrize(
    ("function", "passing"),
    [
        (lambda data, model: None, Passing.NOT),
        (lambda data, model, context: context, Passing.LAST),
        (lambda data, model, anything: anything, Passing.LAST),
        (lambda data, model, context=None: context, Passing.LAST),
        (lambda data, model, encoding="utf-8": encoding, Passing.NOT),
        (lambda data, model=None: None, Passing.NOT),
        (lambda data, model, *args: args, Passing.NOT),
        (lambda *args: args, Passing.NOT),
        (lambda *args, **kwargs: args, Passing.NOT),
        (lambda data, model, context, *args: context, Passing.LAST),
        (lambda data, model, **kwargs: kwargs, Passing.NOT),
        (lambda data, model, *, context: context, Passing.BY_KEYWORD),
        (lambda data, model, *, ctx=None: ctx, Passing.BY_KEYWORD),
        (lambda data, model, *, verbose=False: verbose, Passing.NOT),
        (functools.partial(takes_more, extra=1), Passing.BY_KEYWORD),
        (functools.partial(takes_more, 0), Passing.LAST),
        (Callables().method, Passing.LAST),
        (Callables(), Passing.NOT),
        (max, Passing.NOT),
    ],
)
def test_the_signature_tells_whether_the_context_is_wanted(function: Any, passing: Passing) -> None:
    bound = user_function("predict_fn", function, TWO)
    assert bound.passing is passing
    result = bound(CONTEXT, 1, 2)
    if passing is not Passing.NOT:
        assert result is CONTEXT


@pytest.mark.parametrize(
    "function",
    [
        lambda: None,
        lambda data: None,
        lambda data, *, model: None,
        lambda data, model, *, scale: None,
        takes_more,
        wrapped,
    ],
)
def test_a_function_that_cannot_be_called_fails_the_load(function: Any) -> None:
    with pytest.raises(
        ModelLoadError, match=r"must take \(data, model\) or \(data, model, context"
    ):
        user_function("predict_fn", function, TWO)


def test_something_that_is_no_function_fails_the_load() -> None:
    with pytest.raises(ModelLoadError, match="predict_fn is a int, not a function"):
        user_function("predict_fn", 3, TWO)


def test_a_context_parameter_in_the_wrong_place_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def input_fn(data: Any, context: Any) -> Any:
        return context

    with caplog.at_level(logging.WARNING):
        bound = user_function("input_fn", input_fn, ("input_data", "content_type"))
    assert "gets content_type in its parameter 'context'" in caplog.text
    assert bound(CONTEXT, b"", "text/csv") == "text/csv"
