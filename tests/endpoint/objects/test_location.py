"""Models' names stay below the prefix that their container was made with."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from endpoint.objects.location import location
from tests.endpoint.yard import Yard


@pytest.mark.parametrize(
    ("prefix", "target", "url"),
    [
        ("s3://models/team/", "a/m.tar.gz", "s3://models/team/a/m.tar.gz"),
        ("s3://models/team", "m.tar.gz", "s3://models/team/m.tar.gz"),
        ("s3://models/", "m.tar.gz", "s3://models/m.tar.gz"),
        ("s3://models", "-private/m.tar.gz", "s3://models/-private/m.tar.gz"),
        ("file:///srv/models/", "m.tar.gz", "file:///srv/models/m.tar.gz"),
        ("file:///srv/models", "-private/m.tar.gz", "file:///srv/models/-private/m.tar.gz"),
        ("s3://models", "", "s3://models/"),
    ],
)
def test_a_name_goes_on_below_the_prefix(prefix: str, target: str, url: str) -> None:
    assert location(prefix, target) == url


def test_no_name_leads_to_a_folder_whose_name_only_begins_like_the_models(tmp_path: Path) -> None:
    with Yard(tmp_path) as yard:
        yard.add("m.tar.gz", says="hello")
        yard.add("m.tar.gz", says="private", to="models-private")
        yard.endpoint(yard.variant(data=f"file://{yard.models}"))
        with pytest.raises(ClientError, match="there is no file://"):
            yard.invoke("-private/m.tar.gz")
        assert yard.invoke("m.tar.gz").json["says"] == "hello"
