"""Decides, once at load time, whether a model's function also wants the ``context``.

The SageMaker toolkit counts parameters: one more than the arguments means "and the context". That
stays true here for a required parameter. One with a default is filled only if it is called
``context``, so ``input_fn(data, content_type, encoding="utf-8")`` keeps its encoding.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from inspect import Parameter
from types import FunctionType
from typing import Any

from handlers.errors import ModelLoadError
from handlers.interfaces.context import Context

CONTEXT_NAMES = frozenset({"context", "ctx", "_context"})

logger = logging.getLogger(__name__)


class Passing(Enum):
    """How a function takes the context."""

    NOT = auto()
    LAST = auto()
    BY_KEYWORD = auto()


@dataclass(frozen=True, slots=True)
class UserFunction:
    """A function of the model's author, with the way it takes the context."""

    function: Callable[..., Any]
    passing: Passing
    context_name: str = "context"

    def __call__(self, context: Context, *args: Any) -> Any:
        """Call it with the arguments, and with the context if it wants one."""
        return self.bound_to(context)(*args)

    def bound_to(self, context: Context) -> Callable[..., Any]:
        """The same as a function of the arguments alone: a model keeps its context for life."""
        if self.passing is Passing.LAST:
            return lambda *args: self.function(*args, context)
        if self.passing is Passing.BY_KEYWORD:
            return partial(self.function, **{self.context_name: context})
        return self.function


def user_function(name: str, function: Any, arguments: Sequence[str]) -> UserFunction:
    """A function checked against the arguments it will get. Raises ``ModelLoadError``."""
    if not callable(function):
        raise ModelLoadError(f"{name} is a {type(function).__name__}, not a function.")
    if _is_plain(function, len(arguments)):
        return UserFunction(function, Passing.NOT)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some built-in callables do not tell
        return UserFunction(function, Passing.NOT)
    keyword = _keyword_context(parameters)
    if keyword is not None:
        return UserFunction(function, Passing.BY_KEYWORD, keyword)
    passing = _passing(parameters, len(arguments))
    if passing is None:
        wanted = ", ".join(arguments)
        raise ModelLoadError(
            f"{name}{inspect.signature(function)} must take ({wanted}) or ({wanted}, context)."
        )
    _warn_of_misplaced_context(name, parameters, arguments, passing)
    return UserFunction(function, passing)


def _is_plain(function: Callable[..., Any], count: int) -> bool:
    """Whether it is a function of just so many parameters, none of them a context.

    Most are. Asking ``inspect`` copies a third of a MiB of the pages that a model's process shares
    with its zygote.
    """
    if type(function) is not FunctionType or function.__dict__ or function.__defaults__:
        return False
    code = function.__code__
    return (
        code.co_argcount == count
        and code.co_kwonlyargcount == 0
        and not code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
        and CONTEXT_NAMES.isdisjoint(code.co_varnames[:count])
    )


def _keyword_context(parameters: Sequence[Parameter]) -> str | None:
    """The name of a keyword-only context parameter, if there is one."""
    for parameter in parameters:
        if parameter.kind is Parameter.KEYWORD_ONLY and parameter.name in CONTEXT_NAMES:
            return parameter.name
    return None


def _passing(parameters: Sequence[Parameter], count: int) -> Passing | None:
    """How to pass the context after ``count`` arguments; None if the function cannot be called."""
    positional = [
        p
        for p in parameters
        if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]
    required = sum(p.default is Parameter.empty for p in positional)
    takes_any = any(p.kind is Parameter.VAR_POSITIONAL for p in parameters)
    unknown_keyword = any(
        p.kind is Parameter.KEYWORD_ONLY and p.default is Parameter.empty for p in parameters
    )
    if unknown_keyword or required > count + 1 or (len(positional) < count and not takes_any):
        return None
    if required == count + 1:
        return Passing.LAST
    if len(positional) > count and positional[count].name in CONTEXT_NAMES:
        return Passing.LAST
    return Passing.NOT


def _warn_of_misplaced_context(
    name: str, parameters: Sequence[Parameter], arguments: Sequence[str], passing: Passing
) -> None:
    """Say when a parameter called context will get something else: an easy mistake to make."""
    for parameter, argument in zip(parameters, arguments, strict=False):
        if parameter.name in CONTEXT_NAMES and passing is Passing.NOT:
            logger.warning(
                "%s gets %s in its parameter %r; to get the context too, define %s(%s, context)",
                name,
                argument,
                parameter.name,
                name,
                ", ".join(arguments),
            )
