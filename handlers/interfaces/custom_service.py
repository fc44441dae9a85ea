"""Models that follow multi-model-server's convention: ``handle(data, context)``.

``data`` is a list with one dict per request of the batch, and the answer a list of the same length.

Two styles: a module with a function (``handle`` unless the handler names another), which is called
once with None at load time; or a module with one class that has ``initialize(context)`` and
``handle(data, context)``. Where a module has both, the function is taken, as it is usually the one
that owns the instance.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from handlers.errors import HandlerError, InvalidOutput, ModelLoadError
from handlers.interfaces.arity import user_function
from handlers.interfaces.awaiting import settled
from handlers.interfaces.context import Context
from handlers.interfaces.responses import body_of, response_of
from handlers.interfaces.rows import row_of
from handlers.interfaces.streams import is_stream, streamed
from handlers.interfaces.user_code import classes_of, import_handler, lend_to_main
from handlers.interfaces.user_errors import failure
from handlers.parking import OwnParking, parking_of
from handlers.types import HandlerOptions, ModelPlan, Parking, Request, Resources, Response

Handle = Callable[[Any, Context], Any]
Encode = Callable[[Any], tuple[bytes, str]]

# Classes of packages whose ``handle`` reads the headers of a batch's first request for all of it.
ONE_AT_A_TIME = {
    "sagemaker_inference": ("DefaultHandlerService", "Transformer"),
    "sagemaker_huggingface_inference_toolkit": ("HuggingFaceHandlerService",),
}


class CustomService:
    """A loaded model whose own code does everything.

    ``decoded``: bodies that say they are JSON or text come as that. ``takes_batches``: whether the
    code looks at more than the first request's headers. ``encode`` makes bytes of an element.
    """

    def __init__(
        self,
        handle: Handle,
        context: Context,
        *,
        takes_batches: bool = True,
        decoded: bool = False,
        encode: Encode = body_of,
        parking: Parking | None = None,
    ) -> None:
        self.parking = parking
        self._handle = handle
        self._context = context
        self._decoded = decoded
        self._encode = encode
        self.takes_batches = takes_batches

    def invoke(self, request: Request) -> Response:
        """Answer one request, as a batch of one."""
        answer = self.invoke_batch((request,))[0]
        if isinstance(answer, HandlerError):
            raise answer
        return answer

    def invoke_batch(self, batch: Sequence[Request]) -> list[Response | HandlerError]:
        """Answer a batch by one call of the handler.

        What it raises is raised; an element that is an exception fails its request alone; not one
        element for each request fails them all.
        """
        self._context.begin(batch)
        data = [row_of(request, decoded=self._decoded) for request in batch]
        results = settled(self._handle(data, self._context))
        try:
            elements = _checked(results, len(batch))
        except InvalidOutput as error:  # the handler's fault: asking again changes nothing
            return [error for _ in batch]
        return [self._answer(idx, element) for idx, element in enumerate(elements)]

    def _answer(self, idx: int, element: Any) -> Response | HandlerError:
        try:
            return self._response(idx, element)
        except Exception as error:
            return failure(error)

    def _response(self, idx: int, element: Any) -> Response:
        if isinstance(element, Exception):
            raise element
        if is_stream(element):
            return streamed(element, self._context, idx)
        body, natural = self._encode(element)
        before = self._context.sent_before.get(idx)
        if before:
            parts = [self._encode(part) for part in before]
            body, natural = b"".join([*(part for part, _ in parts), body]), parts[0][1]
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
    handle, owner = load_handler(plan, context)
    return CustomService(
        handle,
        context,
        takes_batches=not _one_at_a_time(owner),
        decoded=os.environ.get("MMS_DECODE_INPUT_REQUEST") == "true",  # SageMaker turns it off
        parking=parking_of_handler(owner, context, resources),
    )


def parking_of_handler(owner: Any, context: Context, resources: Resources) -> Parking | None:
    """By the handler's own ``park()`` and ``restore()``, or as its weights allow."""
    own = {name: getattr(owner, name, None) for name in ("park", "restore")}
    if resources.gpu_id is None or not all(callable(function) for function in own.values()):
        return parking_of(owner, resources)
    steps = [user_function(name, fn, ()).bound_to(context) for name, fn in own.items()]
    return parking_of(owner, resources, OwnParking(*steps))


def load_handler(plan: ModelPlan, context: Context) -> tuple[Handle, Any]:
    """The handler's function, its model loaded; and what it belongs to, a module or an object."""
    name, _, attribute = (plan.handler or "").partition(":")
    module = import_handler(name, plan.script)
    lend_to_main(module)
    found = getattr(module, attribute, None)
    if callable(found) and not isinstance(found, type):
        settled(found(None, context))
        return found, module
    instance = found() if found is not None else _handler_class(module, attribute)()
    if hasattr(instance, "initialize"):
        settled(instance.initialize(context))
    return instance.handle, instance


def _handler_class(module: ModuleType, function_name: str) -> type[Any]:
    """The one class of a module; among several, the one that can handle and is nobody's base."""
    classes = classes_of(module)
    able = [item for item in classes if callable(getattr(item, "handle", None))]
    last = [item for item in able if not any(item in other.__mro__[1:] for other in able)]
    if len(last) == 1:
        return last[0]
    found = ", ".join(item.__name__ for item in classes) or "none"
    raise ModelLoadError(
        f"The handler module {module.__name__} needs a function {function_name}(data, context) or "
        f"one class with handle(data, context); it has no such function, and its classes are: "
        f"{found}."
    )


def _one_at_a_time(owner: Any) -> bool:
    """Whether a handler, or an object that it or its module holds, is of such a class."""
    return any(
        item.__name__ in ONE_AT_A_TIME.get(str(item.__module__).partition(".")[0], ())
        for value in [owner, *getattr(owner, "__dict__", {}).values()]
        for item in type(value).__mro__
    )
