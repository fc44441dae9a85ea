"""Answers a few requests for nobody, in a zygote, so that workers find everything done once.

CPython writes into the code that it runs for the first times, to make it faster. What was run here
is written to no more, and so is not copied for each worker; a model's first answer is quicker, too.
"""

from __future__ import annotations

import socket
from types import ModuleType

from handlers.frameworks import FRAMEWORKS
from handlers.interfaces.context import Context
from handlers.interfaces.sagemaker_functions import SageMakerFunctions, functions_of
from handlers.service import LoadedModel
from handlers.types import ModelSettings
from model_server import wire
from model_server.processes.serving import Serving
from model_server.stats import SLOT_FIELDS

# As often as the interpreter looks before it believes that it has seen all.
_TIMES = 20
_BODY = b"[[1]]"
_HEAD = wire.InvokeHead(1, 0, "", (("Content-Type", "application/json"), ("Accept", "*/*")))


def _model() -> LoadedModel:
    """A model of functions that do nothing."""
    module = ModuleType("rehearsal")
    module.__dict__.update(
        input_fn=lambda data, content_type: data,
        predict_fn=lambda data, model: data,
        output_fn=lambda prediction, accept: prediction,
    )
    context = Context(model_name="", model_dir="")
    functions = SageMakerFunctions(
        None,
        functions=functions_of(module, context),
        framework=FRAMEWORKS["python"],
        context=context,
        default_accept="application/json",
    )
    return LoadedModel(functions)


def rehearse() -> None:
    """Take requests from a socket and answer them, as a worker does."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as leash:
        listener.bind("")  # the kernel finds a name, which no file system holds
        listener.listen(1)
        slot = memoryview(bytearray(SLOT_FIELDS * 8)).cast("Q")
        serving = Serving(_model(), listener, leash, slot, ModelSettings())
        for _ in range(_TIMES):
            _ask(listener.getsockname(), serving)


def _ask(address: bytes, serving: Serving) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        client.sendall(wire.frame_head(_HEAD, len(_BODY)) + _BODY)
        serving.serve_next()
        wire.Receiver().receive(client)
