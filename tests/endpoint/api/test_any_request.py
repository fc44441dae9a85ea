"""Requests made up from the service's model, right and wrong: each has an answer of AWS's form."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
import pytest
from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from endpoint.api.control_plane import ControlPlane
from endpoint.api.service_model import ServiceModel
from endpoint.errors import ApiError
from endpoint.names import Names
from endpoint.state import State
from tests.endpoint.api.requests import ARN, ROLE, config, model, variant
from tests.endpoint.api.running import Backend
from tests.endpoint.api.shapes import faults_of

MODEL = ServiceModel()._model
OPERATIONS = (
    *("CreateModel", "DescribeModel", "ListModels", "DeleteModel"),
    *("CreateEndpointConfig", "DescribeEndpointConfig"),
    *("ListEndpointConfigs", "DeleteEndpointConfig"),
    *("CreateEndpoint", "DescribeEndpoint", "ListEndpoints", "DeleteEndpoint"),
    *("UpdateEndpoint", "UpdateEndpointWeightsAndCapacities"),
    *("AddTags", "ListTags", "DeleteTags"),
)

# Without these, next to nothing would be about something that is there.
THERE = (
    ("CreateModel", model("a")),
    ("CreateEndpointConfig", config("a", ProductionVariants=[variant("a", ModelName="a")])),
    ("CreateEndpoint", {"EndpointName": "a", "EndpointConfigName": "a"}),
)

Plane = tuple[asyncio.Runner, State, ControlPlane]

# Few, so that requests are about the same things.
NAMES = ("a", "b")
TEXTS = {
    **dict.fromkeys(("ModelName", "EndpointConfigName", "EndpointName", "VariantName"), NAMES),
    "RoleArn": (ROLE,),
    "Url": ("s3://b/k/", "file:///models", "https://b/k"),
    "S3ModelUri": ("s3://b/k/",),
    "DestinationS3Uri": ("s3://b",),
    "ContainerImage": ("image", "missing"),
    "ResourceArn": [f"{ARN}{kind}/a" for kind in ("model", "endpoint-config", "endpoint")],
    "ProductionVariantInstanceType": ("ml.m5.xlarge", "ml.p3.8xlarge"),
    "ContainerMode": ("SingleModel", "MultiModel"),
}
# What this endpoint does not do would hide all the rest.
SELDOM = frozenset(
    ("Containers", "ModelPackageName", "ModelDataSource", "AdditionalModelDataSources")
    + ("InferenceSpecificationName", "InferenceExecutionConfig", "ServerlessConfig")
    + ("InstancePools", "AcceleratorType", "AsyncInferenceConfig", "ShadowProductionVariants")
    + ("ExplainerConfig", "ServerlessUpdateConfig", "NextToken", "RoutingConfig")
)
GARBAGE: SearchStrategy[Any] = st.one_of(
    st.none(), st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False), st.booleans()
) | st.sampled_from([[], {}, [[]], {"A": None}, -1, 2**70])


@cache
def request_of(shape: Shape) -> SearchStrategy[Any]:
    """Mostly what the shape allows."""
    return st.integers(0, 60).flatmap(lambda n: GARBAGE if n == 0 else _right(shape))


def _right(shape: Shape) -> SearchStrategy[Any]:
    match shape:
        case StructureShape():
            return _structure(shape)
        case ListShape():
            least = shape.metadata.get("min", 0)
            return st.lists(request_of(shape.member), min_size=least, max_size=max(least, 2))
        case MapShape():
            return st.dictionaries(st.sampled_from(["A", "B"]), st.text(max_size=3), max_size=2)
        case StringShape():
            return _text(shape)
    if shape.type_name == "boolean":
        return st.booleans()
    least = shape.metadata.get("min", 0)
    return st.integers(least, min(shape.metadata.get("max", least + 25), least + 25))


def _structure(shape: StructureShape) -> SearchStrategy[dict[str, Any]]:
    needed = {name: request_of(shape.members[name]) for name in shape.required_members}
    usual = {"PrimaryContainer", "Image", "ModelDataUrl", "ModelName", "InstanceType"}
    usual |= {"InitialInstanceCount"}
    needed |= {name: request_of(shape.members[name]) for name in usual & set(shape.members)}
    others = {
        name: request_of(member)
        for name, member in shape.members.items()
        if name not in needed and name not in SELDOM
    }
    return st.fixed_dictionaries(needed, optional=others)


def _text(shape: StringShape) -> SearchStrategy[str]:
    if shape.name in TEXTS:
        return st.sampled_from(TEXTS[shape.name])
    if shape.enum:
        return st.sampled_from(shape.enum)
    pattern = shape.metadata.get("pattern", ".*")
    if "\\p{" in pattern:
        return st.text(min_size=1, max_size=3)
    return st.from_regex(pattern, fullmatch=True).filter(
        lambda text: len(text) <= shape.metadata.get("max", 100)
    )


def requests() -> SearchStrategy[tuple[str, Any]]:
    return st.sampled_from(OPERATIONS).flatmap(
        lambda name: st.tuples(st.just(name), request_of(MODEL.operation_model(name).input_shape))
    )


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with asyncio.Runner() as runner:
        state = State(tmp_path_factory.mktemp("state") / "state.db")
        clock = map(float, itertools.count(1_700_000_000))
        plane = ControlPlane(
            Names("us-east-1", "0" * 12), state, Backend(state), lambda: next(clock)
        )

        async def start() -> None:
            plane.start()

        runner.run(start())
        yield runner, state, plane
        runner.run(plane.stop())
        state.close()


async def do(plane: ControlPlane, operation: str, request: Any) -> None:
    try:
        answer = await plane.do(operation, msgspec.json.encode(request))
    except ApiError as error:
        assert error.status == 400, error
        assert error.message
        return
    shape = MODEL.operation_model(operation).output_shape
    if shape is None:
        assert answer is None
    else:
        wire = msgspec.json.decode(msgspec.json.encode(answer))
        assert not list(faults_of(shape, wire, operation))


async def do_all(state: State, plane: ControlPlane, asked: list[tuple[str, Any]]) -> None:
    for operation, request in (*THERE, *asked):
        await do(plane, operation, request)
        await asyncio.sleep(0)  # what the backend does soon
    for table in (state.models, state.configs, state.endpoints):
        for record in table.all():
            table.remove(record.name)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(asked=st.lists(requests(), min_size=1, max_size=12))
def test_every_request_is_done_or_refused_and_every_answer_has_its_shape(
    plane: Plane, asked: list[tuple[str, Any]]
) -> None:
    runner, state, control_plane = plane
    runner.run(do_all(state, control_plane, asked))
