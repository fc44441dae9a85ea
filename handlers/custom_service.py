"""Models that follow multi-model-server's convention: ``handle(data, context)``.

``data`` is a list with one dict per request of the batch, and the answer a list of the same length.

Two styles: a module with a function (``handle`` unless the handler names another), which is called
once with None at load time; or a module with one class that has ``initialize(context)`` and
``handle(data, context)``. Where a module has both, the function is taken, as it is usually the one
that owns the instance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from handlers.context import Context
from handlers.errors import HandlerError, InvalidOutput, ModelLoadError
from handlers.responses import body_of, response_of
from handlers.types import HandlerOptions, ModelPlan, Request, Resources, Response
from handlers.user_code import classes_of, import_handler

Handle = Callable[[Any, Context], Any]


class CustomService:
    """A loaded model whose own code does everything."""

    def __init__(self, handle: Handle, context: Context) -> None:
        self._handle = handle
        self._context = context

    takes_batches = True

    def invoke(self, request: Request) -> Response:
        """Answer one request, as a batch of one."""
        return self._handle_all([request])[0]

    def invoke_batch(self, batch: Sequence[Request]) -> list[Response | HandlerError]:
        """Answer a batch by one call of the handler."""
        return list(self._handle_all(batch))

    def _handle_all(self, batch: Sequence[Request]) -> list[Response]:
        self._context.begin(batch)
        data = [{"body": bytearray(request.body)} for request in batch]
        results = _checked(self._handle(data, self._context), len(batch))
        return [self._response(idx, result) for idx, result in enumerate(results)]

    def _response(self, idx: int, result: Any) -> Response:
        body, natural = body_of(result)
        content_type = self._context.get_response_content_type(idx) or natural
        return response_of(self._context, idx, body, content_type)


def _checked(results: Any, count: int) -> list[Any]:
    if not isinstance(results, list):
        raise InvalidOutput(
            f"The handler returned a {type(results).__name__}; it must return a list with one "
            "element per request."
        )
    if len(results) != count:
        raise InvalidOutput(
            f"The handler returned {len(results)} elements for {count} requests; it must return "
            "one per request."
        )
    return results


def load_custom_service(
    plan: ModelPlan, context: Context, options: HandlerOptions, resources: Resources
) -> CustomService:
    """Import the handler and let it load its model. Errors are the author's own."""
    name, _, function_name = (plan.handler or "").partition(":")
    module = import_handler(name, plan.script)
    function = getattr(module, function_name, None)
    if callable(function):
        function(None, context)
        return CustomService(function, context)
    instance = _handler_class(module, function_name)()
    if hasattr(instance, "initialize"):
        instance.initialize(context)
    return CustomService(instance.handle, context)


def _handler_class(module: ModuleType, function_name: str) -> type[Any]:
    """The one class of a module; among several, the one that can handle."""
    classes = classes_of(module)
    able = [item for item in classes if callable(getattr(item, "handle", None))]
    if len(able) == 1:
        return able[0]
    found = ", ".join(item.__name__ for item in classes) or "none"
    raise ModelLoadError(
        f"The handler module {module.__name__} needs a function {function_name}(data, context) or "
        f"one class with handle(data, context); it has no such function, and its classes are: "
        f"{found}."
    )
