"""Which models are asked for, and what is sent to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from modelyard.load_test import targets
from modelyard.load_test.bodies import bodies_of, default_body
from modelyard.load_test.place import Place
from modelyard.load_test.problem import Problem
from modelyard.load_test.wire import Body
from tests.endpoint.conftest import aws_keys as aws_keys
from tests.endpoint.conftest import s3_url as s3_url
from tests.endpoint.yard import Yard


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    with Yard(tmp_path) as found:
        yield found


def place(yard: Yard, s3: str | None = None) -> Place:
    return Place(yard.url, yard.url, s3, "us-east-1")


def test_models_are_found_in_the_folder_of_an_endpoint(yard: Yard) -> None:
    for name in ("b.tar.gz", "a/c.tar.gz"):
        yard.add(name)
    (yard.models / "notes.txt").write_text("none of them")
    yard.endpoint()
    found = targets.find(place(yard), "ep", None)
    assert found.names == ["a/c.tar.gz", "b.tar.gz"]
    assert found.notes == [f"2 models found at file://{yard.models}/"]
    assert targets.find(place(yard), "ep", ["x"]).names == ["x"]


def test_models_are_found_in_the_bucket_of_an_endpoint(
    tmp_path: Path, s3_url: str, aws_keys: None
) -> None:
    client = boto3.client("s3", endpoint_url=s3_url, region_name="us-east-1")
    client.create_bucket(Bucket="load-test")
    keys = [f"models/m{number:04}.tar.gz" for number in range(3)]
    for key in (*keys, "models/readme.md", "other/x.tar.gz"):
        client.put_object(Bucket="load-test", Key=key, Body=b"")
    client.close()
    with Yard(tmp_path, s3_url=s3_url) as yard:
        yard.endpoint(yard.variant(data="s3://load-test/models/"))
        found = targets.find(place(yard, s3_url), "ep", None)
    assert found.names == [key.removeprefix("models/") for key in keys]


def test_what_is_not_there_is_told(yard: Yard) -> None:
    with pytest.raises(Problem, match="Could not find endpoint"):
        targets.find(place(yard), "nobody", ["given.tar.gz"])
    yard.endpoint()
    with pytest.raises(Problem, match=r"no archive at file://.*--models"):
        targets.find(place(yard), "ep", None)


def test_an_endpoint_of_one_model_is_sent_no_target(yard: Yard) -> None:
    yard.add("m.tar.gz")
    data = f"file://{yard.models}/m.tar.gz"
    yard.endpoint(yard.variant(mode="SingleModel", data=data))
    assert targets.find(place(yard), "ep", None).names == [""]


def test_models_are_listed_once_each(tmp_path: Path) -> None:
    assert targets.listed("a, b,,a") == ["a", "b"]
    file = tmp_path / "models.txt"
    file.write_text("b\n\na\nb\n")
    assert targets.read(file) == ["b", "a"]
    file.write_text("\n")
    with pytest.raises(Problem, match="no model in"):
        targets.read(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Problem, match="UTF-8"):
        targets.read(file)
    with pytest.raises(Problem, match="cannot be read"):
        targets.read(tmp_path / "none")


def test_each_model_gets_the_file_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("iris.csv", "a/b.tar.gz.json", "plain"):
        (tmp_path / name).write_text(name)
    names = ["iris.tar.gz", "a/b.tar.gz", "plain.tar.gz"]
    found = bodies_of(names, tmp_path, None, None)
    assert [Path(body.file).name for body in found] == ["iris.csv", "b.tar.gz.json", "plain"]
    assert [body.content_type for body in found] == ["text/csv", "application/json", None]
    with pytest.raises(Problem, match=r"no file for 1 of 1 models, x.tar.gz for one"):
        bodies_of(["x.tar.gz"], tmp_path, None, None)
    default = Body(b"x")
    assert bodies_of(["x.tar.gz"], tmp_path, default, None) == [default]


def test_a_body_is_a_file_or_a_text(tmp_path: Path) -> None:
    assert default_body(None, "[1]", None) == Body(b"[1]", content_type="application/json")
    assert default_body(None, None, "text/csv") == Body(content_type="text/csv")
    (tmp_path / "b.csv").write_text("1,2")
    body = default_body(str(tmp_path / "b.csv"), None, None)
    assert body == Body(b"1,2", content_type="text/csv")
    with pytest.raises(Problem, match="--body"):
        default_body(str(tmp_path / "none"), None, None)
