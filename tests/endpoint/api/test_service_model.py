"""What the service's own model says of a request, in the platform's words."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint.api.service_model import ServiceModel
from endpoint.errors import SerializationException, ValidationException
from tests.endpoint.api.requests import ROLE, config, container, model, variant


@pytest.fixture(scope="module")
def service() -> ServiceModel:
    return ServiceModel()


def refused(service: ServiceModel, operation: str, request: Any) -> str:
    with pytest.raises(ValidationException) as raised:
        service.checked(operation, request)
    return raised.value.message


def test_a_request_that_is_right_comes_back_as_it_is(service: ServiceModel) -> None:
    request = model(Tags=[{"Key": "k", "Value": ""}], EnableNetworkIsolation=True)
    assert service.checked("CreateModel", request) == request
    request = config(ProductionVariants=[variant(InitialVariantWeight=1)])
    assert service.checked("CreateEndpointConfig", request) == request
    times = {"CreationTimeAfter": 1_700_000_000, "CreationTimeBefore": 1.5e9}
    assert service.checked("ListModels", times) == times


def test_members_that_nobody_knows_are_left_out_and_nulls_too(service: ServiceModel) -> None:
    request = {
        **model(PrimaryContainer=container(Unknown=1, ContainerHostname=None)),
        "Unknown": {"a": []},
        "Tags": None,
    }
    assert service.checked("CreateModel", request) == model()


@pytest.mark.parametrize(
    ("operation", "request_", "message"),
    [
        (
            "CreateModel",
            {},
            "Value null at 'modelName' failed to satisfy constraint: Member must not be null",
        ),
        (
            "CreateModel",
            model("a_b"),
            "Value 'a_b' at 'modelName' failed to satisfy constraint: Member must satisfy regular "
            "expression pattern: [a-zA-Z0-9]([\\-a-zA-Z0-9]*[a-zA-Z0-9])?",
        ),
        (
            "CreateModel",
            model("m" * 64),
            f"Value '{'m' * 64}' at 'modelName' failed to satisfy constraint: Member must have "
            "length less than or equal to 63",
        ),
        (
            "CreateModel",
            model(PrimaryContainer=container(Mode="ManyModels")),
            "Value 'ManyModels' at 'primaryContainer.mode' failed to satisfy constraint: Member "
            "must satisfy enum value set: [SingleModel, MultiModel]",
        ),
        (
            "CreateModel",
            model(PrimaryContainer=container(Environment={"a-b": "c"})),
            "at 'primaryContainer.environment' failed to satisfy constraint: Map keys must satisfy "
            "constraint: [Member must satisfy regular expression pattern: [a-zA-Z_][a-zA-Z0-9_]*]",
        ),
        (
            "CreateModel",
            model(PrimaryContainer=container(Environment={"a": "c" * 1025})),
            "Map value must satisfy constraint: [Member must have length less than or equal to "
            "1024]",
        ),
        ("CreateModel", model(Tags=[{"Key": "k"}]), "Value null at 'tags.1.member.value' failed"),
        (
            "CreateModel",
            model(PrimaryContainer=container(ModelDataUrl="ftp://b/k")),
            "Value 'ftp://b/k' at 'primaryContainer.modelDataUrl' failed",
        ),
        (
            "CreateEndpointConfig",
            config(ProductionVariants=[]),
            "Value '[]' at 'productionVariants' failed to satisfy constraint: Member must have "
            "length greater than or equal to 1",
        ),
        (
            "CreateEndpointConfig",
            config(ProductionVariants=[variant(f"v{n}") for n in range(11)]),
            "at 'productionVariants' failed to satisfy constraint: Member must have length less "
            "than or equal to 10",
        ),
        (
            "CreateEndpointConfig",
            config(ProductionVariants=[variant(), variant("b", InitialInstanceCount=0)]),
            "Value '0' at 'productionVariants.2.member.initialInstanceCount' failed to satisfy "
            "constraint: Member must have value greater than or equal to 1",
        ),
        (
            "CreateEndpointConfig",
            config(ProductionVariants=[variant(VolumeSizeInGB=513)]),
            "Member must have value less than or equal to 512",
        ),
        (
            "CreateEndpointConfig",
            config(ProductionVariants=[variant(InstanceType="ml.none")]),
            "Value 'ml.none' at 'productionVariants.1.member.instanceType' failed",
        ),
        ("ListModels", {"MaxResults": 101}, "value less than or equal to 100"),
        ("CreateModel", model(ExecutionRoleArn="role"), "greater than or equal to 20"),
    ],
)
def test_one_thing_is_wrong(
    service: ServiceModel, operation: str, request_: Any, message: str
) -> None:
    found = refused(service, operation, request_)
    assert found.startswith("1 validation error detected: Value ")
    assert message in found


def test_all_that_is_wrong_is_counted(service: ServiceModel) -> None:
    request = config("c_", ProductionVariants=[variant("v_", InitialInstanceCount=0)])
    found = refused(service, "CreateEndpointConfig", request)
    assert found.startswith("3 validation errors detected: Value 'c_' at 'endpointConfigName'")
    assert found.count("; Value ") == 2


def test_very_much_that_is_wrong_fits_a_message(service: ServiceModel) -> None:
    many = [{"VariantName": "v_" * 5000} for _ in range(5000)]
    request = {"EndpointName": "ep", "DesiredWeightsAndCapacities": many}
    found = refused(service, "UpdateEndpointWeightsAndCapacities", request)
    assert found.startswith("5000 validation errors detected: ")
    assert len(found) < 20_000
    tags = [{"Key": ""} for _ in range(100_000)]
    found = refused(service, "AddTags", {"ResourceArn": f"{ROLE}x" * 9, "Tags": tags})
    assert found.startswith("2 validation errors detected: ")


@pytest.mark.parametrize(
    ("operation", "request_", "message"),
    [
        ("CreateModel", [], "a list or structure can not be converted to a structure"),
        ("CreateModel", "x", "STRING_VALUE can not be converted to a structure"),
        ("CreateModel", None, "can not be converted to a structure"),
        ("CreateModel", {"ModelName": 1}, "NUMBER_VALUE can not be converted to a String"),
        ("CreateModel", model(EnableNetworkIsolation="yes"), "can not be converted to a Boolean"),
        ("CreateModel", model(EnableNetworkIsolation=1), "can not be converted to a Boolean"),
        ("CreateModel", model(Tags={}), "can not be converted to a list at 'tags'"),
        (
            "CreateModel",
            model(PrimaryContainer=container(Environment={"A": 1})),
            "NUMBER_VALUE can not be converted to a String at 'primaryContainer.environment'",
        ),
        (
            "CreateModel",
            model(PrimaryContainer=container(Environment=[])),
            "can not be converted to a map",
        ),
        (
            "CreateEndpointConfig",
            config(ProductionVariants=[variant(InitialInstanceCount=True)]),
            "BOOLEAN_VALUE can not be converted to an Integer",
        ),
        (
            "CreateEndpointConfig",
            config(ProductionVariants=[variant(InitialInstanceCount=1.5)]),
            "NUMBER_VALUE can not be converted to an Integer",
        ),
        (
            "CreateEndpointConfig",
            config(ProductionVariants=[variant(InitialVariantWeight=1e300)]),
            "NUMBER_VALUE can not be converted to a Float",
        ),
        ("ListModels", {"CreationTimeAfter": "now"}, "can not be converted to a Date"),
    ],
)
def test_values_of_another_type_cannot_be_read(
    service: ServiceModel, operation: str, request_: Any, message: str
) -> None:
    with pytest.raises(SerializationException) as raised:
        service.checked(operation, request_)
    assert message in raised.value.message


def test_patterns_that_only_java_understands_match_everything(service: ServiceModel) -> None:
    tags = [{"Key": "schön<>", "Value": "\n"}]
    assert service.checked("CreateModel", model(Tags=tags))["Tags"] == tags


def test_it_knows_what_the_service_can_do(service: ServiceModel) -> None:
    assert {"CreateModel", "CreateTrainingJob"} <= service.operations
    assert "CreateNonsense" not in service.operations
