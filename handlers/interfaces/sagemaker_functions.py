"""Models that follow SageMaker's convention: model_fn, input_fn, predict_fn, output_fn and kin.

A function the model's author left out is replaced by the framework's; with no script at all every
function is, and the model is served by its artifact alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from handlers.data.codecs import STR_TYPES, decode_text
from handlers.data.envelopes import Envelope, Rows
from handlers.data.media_types import JSON, accepts_anything, first_choice, parse
from handlers.data.remembered import remembered
from handlers.errors import HandlerError, InvalidOutput, ModelLoadError
from handlers.frameworks import FRAMEWORKS, Framework
from handlers.interfaces.arity import user_function
from handlers.interfaces.awaiting import settled
from handlers.interfaces.batches import Stacking
from handlers.interfaces.context import Context
from handlers.interfaces.responses import body_of, is_response, response_from, response_of
from handlers.interfaces.streams import is_stream, streamed
from handlers.interfaces.user_code import import_file, lend_to_main
from handlers.parking import OwnParking, parking_of
from handlers.types import (
    HandlerOptions,
    Interface,
    ModelPlan,
    Parking,
    Request,
    Resources,
    Response,
)

ARGUMENTS = {
    "pre_model_fn": ("model_dir",),
    "model_fn": ("model_dir",),
    "model_warmup_fn": ("model_dir", "model"),
    "park_fn": ("model",),
    "restore_fn": ("model",),
    "input_fn": ("input_data", "content_type"),
    "predict_fn": ("data", "model"),
    "output_fn": ("prediction", "accept"),
    "transform_fn": ("model", "input_data", "content_type", "accept"),
}

REPLACED_BY_TRANSFORM = ("input_fn", "predict_fn", "output_fn")

# By name; each takes its arguments alone, and has the context already if it wants one.
Functions = dict[str, Callable[..., Any]]


class SageMakerFunctions:
    """A loaded model and the functions that serve it."""

    def __init__(
        self,
        model: Any,
        *,
        functions: Functions,
        framework: Framework,
        context: Context,
        default_accept: str,
        parking: Parking | None = None,
    ) -> None:
        self.parking = parking
        self._model = model
        self._framework = framework
        self._context = context
        self._default_accept = default_accept
        self._transform_fn = functions.get("transform_fn")
        self._input_fn = functions.get("input_fn")
        self._predict_fn: Callable[..., Any] = functions.get("predict_fn") or framework.predict_fn
        self._output_fn = functions.get("output_fn")
        self._own_prediction = bool({"predict_fn", "transform_fn"} & functions.keys())
        self._stacking = Stacking(
            context, read=self._read, predict=self._predict, write=self._output
        )

    @property
    def takes_batches(self) -> bool:
        """Whether requests are stacked. An author's own predict_fn gets one request's data."""
        return not self._own_prediction and self._stacking.allowed

    def invoke(self, request: Request) -> Response:
        """Answer one request through transform_fn, or input_fn, predict_fn and output_fn."""
        self._context.begin((request,))
        if self._transform_fn is not None:
            data, content_type = user_input(request)
            accept = self._accept(request)
            result = settled(self._transform_fn(self._model, data, content_type, accept))
            return self._response(result, accept)
        data, envelope = self._read(request)
        return self._output(request, self._predict(data), envelope)

    def invoke_batch(self, batch: Sequence[Request]) -> list[Response | HandlerError]:
        """Answer requests by as few predictions as they can be stacked into."""
        return self._stacking.answer(batch)

    def _read(self, request: Request) -> tuple[Any, Envelope | None]:
        """What predict_fn gets: an author's the document as it was sent, ours what it holds."""
        data = self._input(request)
        if type(data) is Rows:
            return data.for_author(data.data) if self._own_prediction else data.data, None
        if type(data) is not Envelope or self._own_prediction:
            return data, None
        return data.data, data

    def _input(self, request: Request) -> Any:
        if self._input_fn is not None:
            return settled(self._input_fn(*user_input(request)))
        return self._framework.input_fn(request.body, request.content_type)

    def _predict(self, data: Any) -> Any:
        return settled(self._predict_fn(data, self._model))

    def _output(self, request: Request, prediction: Any, envelope: Envelope | None) -> Response:
        if self._output_fn is not None:
            accept = self._accept(request)
            return self._response(settled(self._output_fn(prediction, accept)), accept)
        if is_stream(prediction):
            return streamed(prediction, self._context, 0)
        if envelope is not None:
            prediction = envelope.reply(prediction)
        body, content_type = self._framework.output_fn(
            prediction, request.accept, self._default_accept
        )
        named = self._context.get_response_content_type(0)
        return response_of(self._context, 0, body, named or content_type)

    def _accept(self, request: Request) -> str:
        """What the author's function gets: the header as sent, unless it leaves the choice."""
        accept = request.accept
        return self._default_accept if accepts_anything(accept) else accept

    def _response(self, result: Any, accept: str) -> Response:
        """The answer of output_fn or transform_fn: a body, or (body, content_type).

        The content type is the pair's, else the one set on the context, else what was accepted.
        """
        body, named = _body_and_type(result)
        if is_stream(body):
            return streamed(body, self._context, 0, named)
        if not isinstance(body, str | bytes) and is_response(body):
            return response_from(body)
        content, natural = body_of(body)
        if natural != JSON:  # the author wrote the text or the bytes, as what was asked for
            natural = first_choice(accept, self._default_accept)
        named = named or self._context.get_response_content_type(0)
        return response_of(self._context, 0, content, named or natural)


def _body_and_type(result: Any) -> tuple[Any, str | None]:
    if not isinstance(result, tuple):
        return result, None
    if len(result) != 2 or not isinstance(result[1], str):
        raise InvalidOutput(
            "output_fn and transform_fn return a body or a pair (body, content_type); this model "
            f"returned a tuple of {', '.join(type(item).__name__ for item in result) or 'nothing'}."
        )
    return result


def user_input(request: Request) -> tuple[str | bytes, str]:
    """Body and content type as input_fn and transform_fn get them.

    JSON and CSV come as str. Their charset has then done its duty and is taken off the content
    type, so that ``content_type == "text/csv"`` holds whatever the client's library adds.
    """
    charset, content_type = _charset_and_type(request.content_type or JSON)
    if charset is None:
        return request.body, content_type
    return decode_text(request.body, charset), content_type


@remembered
def _charset_and_type(content_type: str) -> tuple[str | None, str]:
    """The charset of a type that comes as str, else None; the type as the functions get it."""
    media_type = parse(content_type)
    if media_type.essence not in STR_TYPES:
        return None, content_type
    return media_type.charset, media_type.without("charset")


def load_functions(
    plan: ModelPlan, context: Context, options: HandlerOptions, resources: Resources
) -> SageMakerFunctions:
    """Import the script, if there is one, and load the model. Errors are the author's own."""
    functions: Functions = {}
    if plan.interface is Interface.SAGEMAKER and plan.script is not None:
        module = import_file(Path(plan.script))
        lend_to_main(module)
        functions = functions_of(module, context)
    if "pre_model_fn" in functions:
        settled(functions["pre_model_fn"](plan.model_dir))
    model, framework = _load_model(plan, functions, resources)
    if "model_warmup_fn" in functions:
        settled(functions["model_warmup_fn"](plan.model_dir, model))
    return SageMakerFunctions(
        model,
        functions=functions,
        framework=framework,
        context=context,
        default_accept=options.default_accept,
        parking=_parking(model, functions, resources),
    )


def _parking(model: Any, functions: Functions, resources: Resources) -> Parking | None:
    own = [functions[name] for name in ("park_fn", "restore_fn") if name in functions]
    if len(own) == 1:
        raise ModelLoadError("A model has both park_fn and restore_fn, or neither of them.")
    steps = [partial(function, model) for function in own]
    return parking_of(model, resources, OwnParking(*steps) if steps else None)


def functions_of(module: ModuleType, context: Context) -> Functions:
    """The convention's functions that a module defines. Raises ``ModelLoadError``."""
    functions = {
        name: user_function(name, getattr(module, name), arguments).bound_to(context)
        for name, arguments in ARGUMENTS.items()
        if hasattr(module, name)
    }
    mixed = [name for name in REPLACED_BY_TRANSFORM if name in functions]
    if "transform_fn" in functions and mixed:
        raise ModelLoadError(
            f"{module.__name__} defines transform_fn, which takes the place of "
            f"{', '.join(REPLACED_BY_TRANSFORM)}, but also {', '.join(mixed)}. Remove the one or "
            "the others."
        )
    return functions


def _load_model(
    plan: ModelPlan, functions: Functions, resources: Resources
) -> tuple[Any, Framework]:
    """The model, and the framework whose functions stand in for missing ones."""
    if "model_fn" in functions:
        model = settled(functions["model_fn"](plan.model_dir))
        return model, FRAMEWORKS[plan.framework]
    if plan.loader is None:
        where = Path(plan.script).name if plan.script else "The model"
        raise ModelLoadError(
            f"{where} defines no model_fn, and {plan.model_dir} holds no file that could be loaded "
            "without one. Define model_fn(model_dir)."
        )
    framework = FRAMEWORKS[plan.loader]
    try:
        return framework.load(plan, resources), framework
    except Exception as error:
        error.add_note(f"while loading {plan.artifact}")
        raise
