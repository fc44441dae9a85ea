"""Which variant a request goes to, and what it may ask of it."""

from __future__ import annotations

import io
import tarfile
from collections import Counter

import pytest

from tests.endpoint.user import until
from tests.endpoint.yard import Yard

MANY = 200


def shares(yard: Yard) -> Counter[str]:
    return Counter(yard.invoke().variant for _ in range(MANY))


def test_variants_get_requests_by_their_weights_and_new_weights_count_at_once(yard: Yard) -> None:
    yard.endpoint(yard.variant("a", weight=3), yard.variant("b", weight=1))
    found = shares(yard)
    assert 0.62 * MANY < found["a"] < 0.88 * MANY
    assert found["a"] + found["b"] == MANY

    yard.change(("a", {"DesiredWeight": 0.25}))
    yard.wait("endpoint_in_service")
    weights = {
        one["VariantName"]: one["CurrentWeight"] for one in yard.describe()["ProductionVariants"]
    }
    assert weights == {"a": 0.25, "b": 1.0}
    assert 0.07 * MANY < shares(yard)["a"] < 0.33 * MANY


def test_a_variant_of_weight_0_gets_only_requests_that_name_it(yard: Yard) -> None:
    yard.endpoint(yard.variant("a"), yard.variant("b"))
    yard.change(("b", {"DesiredWeight": 0}))
    yard.wait("endpoint_in_service")
    assert shares(yard) == {"a": MANY}
    assert yard.invoke(TargetVariant="b").variant == "b"


def test_a_variant_that_is_not_there_is_an_error_that_names_those_that_are(yard: Yard) -> None:
    yard.endpoint(yard.variant("a"), yard.variant("b"))
    code, message = yard.code(lambda: yard.invoke(TargetVariant="c"))
    assert code == "ValidationError"
    assert "c not found" in message
    assert "a, b" in message


@pytest.mark.parametrize("desired", [("x", {"DesiredWeight": 1}), ("v", {"DesiredWeight": 0})])
def test_weights_of_unknown_variants_and_no_weight_at_all_are_refused(
    yard: Yard, desired: tuple[str, dict[str, int]]
) -> None:
    yard.endpoint()
    assert yard.code(lambda: yard.change(desired))[0] == "ValidationException"
    assert yard.status() == "InService"


def test_a_variant_keeps_at_least_one_instance(yard: Yard) -> None:
    yard.endpoint()
    code, message = yard.code(lambda: yard.resize(0))
    assert (code, "must be 1 or more" in message) == ("ValidationException", True)
    assert yard.invoke().json["says"] == "hello"


def test_without_a_target_model_a_multi_model_endpoint_says_what_is_missing(yard: Yard) -> None:
    yard.endpoint()
    code, message = yard.code(lambda: yard.invoke(None))
    assert (code, "is missing a target model header" in message) == ("ValidationError", True)


def test_a_single_model_endpoint_serves_its_model_and_takes_no_target_model(yard: Yard) -> None:
    path = yard.directory / "one.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("says")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"one"))
    yard.endpoint(yard.variant(mode="SingleModel", data=f"file://{path}"))
    assert yard.invoke(None, "to one").json["body"] == "to one"
    (says,) = yard.directory.glob("data/instances/*/models/single/model/says")
    assert says.read_text() == "one"
    code, message = yard.code(yard.invoke)
    assert code == "ValidationError"
    assert "is not a multi-model endpoint and does not support target model header" in message


def test_a_single_model_that_cannot_be_had_is_the_reason_why_the_endpoint_failed(
    yard: Yard,
) -> None:
    path = yard.directory / "one.tar.gz"
    path.write_bytes(b"not a gzip")
    yard.create(yard.variant(mode="SingleModel", data=f"file://{path}"))
    until(lambda: yard.status() == "Failed")
    assert "one.tar.gz" in yard.describe()["FailureReason"]
