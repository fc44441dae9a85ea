"""A dry run prints what would be called, for the AWS CLI, and calls nothing of it."""

from __future__ import annotations

import json
import shlex
from itertools import pairwise
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

from tests.deploy.conftest import IMAGE, MODELS, ROLE, Aws, said_lines

ALL = ("--instances", "2", "--max-instances", "4", "--invocations-per-minute", "60", "--alarms")


def call_of(line: str) -> tuple[str, str, dict[str, Any]]:
    """Service, operation and parameters, which must be such as AWS takes."""
    command, service, operation, _, region, option, text = shlex.split(line)
    assert (command, region, option) == ("aws", "us-east-1", "--cli-input-json")
    parameters: dict[str, Any] = json.loads(text)
    model = botocore.session.get_session().get_service_model(service)
    (name,) = [
        each for each in model.operation_names if botocore.xform_name(each, "-") == operation
    ]
    shape = model.operation_model(name).input_shape
    report = ParamValidator().validate(parameters, shape)
    assert not report.has_errors(), report.generate_report()
    return service, operation, parameters


def test_all_calls_of_a_deployment_are_printed_in_their_order(aws: Aws) -> None:
    lines = said_lines(aws.deploy(*ALL, "--dry-run"))
    calls = [call_of(line) for line in lines]
    assert [operation for _, operation, _ in calls] == [
        *("create-model", "create-endpoint-config", "create-endpoint"),
        *("register-scalable-target", "put-scaling-policy"),
        *["put-metric-alarm"] * 4,
    ]
    _, _, model = calls[0]
    assert model["ExecutionRoleArn"] == ROLE
    assert model["PrimaryContainer"] == {
        "Image": IMAGE,
        "Mode": "MultiModel",
        "ModelDataUrl": MODELS,
    }
    _, _, config = calls[1]
    (variant,) = config["ProductionVariants"]
    assert variant["ModelName"] == model["ModelName"]
    assert (variant["InitialInstanceCount"], variant["InstanceType"]) == (2, "ml.m5.xlarge")
    assert aws.endpoints() == [] and aws.parts() == []


def test_what_it_prints_is_what_is_done(aws: Aws) -> None:
    lines = said_lines(aws.deploy(*ALL, "--dry-run"))
    for line in lines:
        service, operation, parameters = call_of(line)
        getattr(aws.client(service), operation.replace("-", "_"))(**parameters)
    assert said_lines(aws.deploy(*ALL, "--dry-run")) == []


def test_the_calls_of_a_removal_are_printed(aws: Aws) -> None:
    assert aws.deploy(*ALL).returncode == 0
    calls = [call_of(line) for line in said_lines(aws.undeploy("--dry-run"))]
    assert [operation for _, operation, _ in calls] == [
        *("deregister-scalable-target", "delete-endpoint"),
        *("delete-endpoint-config", "delete-model", "delete-alarms"),
    ]
    assert aws.endpoints() == ["many"]


def test_the_request_is_printed_as_a_line_of_its_own(aws: Aws) -> None:
    request = ("--invoke", "a b.tar.gz", "--data", '{"x": 1}')
    *_, last = said_lines(aws.deploy("--dry-run", *request))
    words = shlex.split(last)
    assert words[:3] == ["aws", "sagemaker-runtime", "invoke-endpoint"]
    options = dict(pairwise(words))
    assert options["--target-model"] == "a b.tar.gz"
    assert options["--body"] == '{"x": 1}'
    assert options["--content-type"] == "application/json"
