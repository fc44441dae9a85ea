"""``max_instances`` is of all endpoints together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.endpoint.yard import Yard

CODE = "ResourceLimitExceeded"


def refused(yard: Yard, call: Callable[[], object], numbers: str) -> None:
    code, message = yard.code(call)
    assert code == CODE
    assert numbers in message
    assert "max_instances" in message


def test_no_call_makes_more_instances_than_the_limit(tmp_path: Path) -> None:
    with Yard(tmp_path, max_instances=3) as yard:
        yard.endpoint(yard.variant(instances=2))
        runs = yard.processes()
        more = yard.config(yard.variant(instances=2))
        named = {"EndpointName": "other", "EndpointConfigName": more}
        all_used = "is 3: 2 are in use, and 2 more are asked for"
        refused(yard, lambda: yard.sagemaker.create_endpoint(**named), all_used)
        assert yard.status("other") == ""
        named["EndpointName"] = "ep"
        refused(yard, lambda: yard.sagemaker.update_endpoint(**named), all_used)
        refused(yard, lambda: yard.resize(99), "is 3: 2 are in use, and 97 more are asked for")
        assert (yard.status(), yard.processes()) == ("InService", runs)


def test_up_to_the_limit_endpoints_may_share_it_as_they_like(tmp_path: Path) -> None:
    with Yard(tmp_path, max_instances=3) as yard:
        yard.endpoint(yard.variant(instances=2))
        yard.endpoint(yard.variant(), name="other")
        with pytest.raises(ClientError, match=CODE):
            yard.create(yard.variant(), name="third")
        yard.resize(1)
        yard.update(yard.variant())  # beside the old one
        yard.resize(2)
        yard.delete("other")
        yard.resize(3)
