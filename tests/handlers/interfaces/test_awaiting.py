from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from handlers.errors import HandlerError, ModelLoadError
from handlers.service import LoadedModel
from handlers.types import Request

Load = Callable[..., LoadedModel]
Ask = Callable[..., Request]

MANIFEST = json.dumps({"model": {"modelName": "m", "handler": "service"}})


def script(text: str) -> dict[str, str]:
    return {"code/inference.py": "import asyncio\n" + text}


def service(text: str) -> dict[str, str]:
    return {"MAR-INF/MANIFEST.json": MANIFEST, "service.py": "import asyncio\n" + text}


def test_every_function_of_a_script_may_be_async(load: Load, ask: Ask) -> None:
    model = load(
        script("""
seen = []
async def pre_model_fn(model_dir): seen.append("pre")
async def model_fn(model_dir): await asyncio.sleep(0); return 3
async def model_warmup_fn(model_dir, model): seen.append(model)
async def input_fn(data, content_type, context): return [context.get_request_header(0, "x-n")]
async def predict_fn(data, model): await asyncio.sleep(0); return data + seen
async def output_fn(prediction, accept): return repr(prediction), "text/plain"
""")
    )
    assert model.invoke(ask("", x_n="7")).body == b"['7', 'pre', 3]"


def test_transform_fn_may_be_async(load: Load, ask: Ask) -> None:
    model = load(
        script("""
def model_fn(model_dir): return 3
async def transform_fn(model, data, content_type, accept): return str(model)
""")
    )
    assert model.invoke(ask("")).body == b"3"


def test_a_session_made_at_load_time_works_in_requests(load: Load, ask: Ask) -> None:
    model = load(
        script("""
async def model_fn(model_dir):
    queue = asyncio.Queue()
    asyncio.create_task(serve(queue))
    return queue
async def serve(queue):
    while True:
        answer, data = await queue.get()
        answer.set_result(data.sum())
async def predict_fn(data, model):
    answer = asyncio.get_running_loop().create_future()
    await model.put((answer, data))
    return [int(await answer)]
""")
    )
    assert model.invoke(ask("[1, 2]")).body == b"[3]"
    assert model.invoke(ask("[2, 2]")).body == b"[4]"


@pytest.mark.parametrize(
    "text",
    [
        """
async def handle(data, context):
    await asyncio.sleep(0)
    return None if data is None else [bytes(data[0]["body"])]
""",
        """
class Handler:
    async def initialize(self, context): self.suffix = b"!"
    async def handle(self, data, context): return [bytes(data[0]["body"])]
""",
    ],
)
def test_custom_services_may_be_async(load: Load, ask: Ask, text: str) -> None:
    assert load(service(text)).invoke(ask(b"x")).body == b"x"


def test_what_is_not_declared_async_may_return_a_coroutine(load: Load, ask: Ask) -> None:
    model = load(
        script("""
class Model:
    async def predict(self, data): return [1]
def model_fn(model_dir): return Model()
""")
    )
    assert model.invoke(ask("[1]")).body == b"[1]"


def test_exceptions_of_async_functions_are_those_of_any_function(load: Load, ask: Ask) -> None:
    failing = "async def predict_fn(data, model): raise ValueError('bad')\n"
    model = load(script("def model_fn(d): pass\n" + failing))
    with pytest.raises(HandlerError, match="ValueError: bad"):
        model.invoke(ask("[1]"))
    with pytest.raises(ModelLoadError, match="KeyError"):
        load(script("async def model_fn(model_dir): raise KeyError('x')"))


def test_only_a_model_without_an_event_loop_can_be_forked(load: Load) -> None:
    assert load(script("def model_fn(model_dir): return 1")).can_fork
    assert not load(script("async def model_fn(model_dir): return 1")).can_fork


def test_a_loop_that_the_models_code_closed_is_replaced(load: Load, ask: Ask) -> None:
    model = load(
        script("""
async def model_fn(model_dir): asyncio.get_running_loop().call_soon(lambda: None)
def input_fn(data, content_type): asyncio.get_event_loop().close()
async def predict_fn(data, model): return [1]
""")
    )
    assert model.invoke(ask("[1]")).body == b"[1]"


def test_synchronous_functions_may_run_loops_of_their_own(load: Load, ask: Ask) -> None:
    model = load(
        script("""
async def model_fn(model_dir): return 1
def input_fn(data, content_type): return asyncio.run(two())
async def two(): return 2
async def predict_fn(data, model): return [data]
""")
    )
    assert model.invoke(ask("")).body == b"[2]"
    assert model.invoke(ask("")).body == b"[2]"
