"""Lists of models, configurations and endpoints, by boto3 and its paginators."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from endpoint.records import Definition, EndpointRecord, EndpointStatus
from tests.endpoint.api.requests import refused
from tests.endpoint.api.running import RunningApi

NAMES = ["beta", "alpha", "gamma", "delta", "Alpha-2"]


@pytest.fixture(autouse=True)
def records(api: RunningApi) -> None:
    """Created in the order of NAMES, at 1, 2, 3 ... seconds; ends and beginnings share a status."""

    def put() -> None:
        for time, name in enumerate(NAMES, 1):
            api.state.models.put(Definition(name=name, request={}, created=time))
            api.state.configs.put(Definition(name=name, request={}, created=time))
            api.state.endpoints.put(
                EndpointRecord(
                    name=name,
                    config_name="c",
                    status=EndpointStatus.IN_SERVICE if time in (1, 5) else EndpointStatus.FAILED,
                    created=time,
                    modified=time + 100,
                    variants=(),
                )
            )

    api.call(put)


def names(answer: dict[str, Any]) -> list[str]:
    (kind,) = set(answer) & {"Models", "EndpointConfigs", "Endpoints"}
    return [shown[f"{kind[:-1]}Name"] for shown in answer[kind]]


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize("kind", ["models", "endpoint_configs", "endpoints"])
def test_the_newest_come_first(sagemaker: Any, kind: str) -> None:
    answer = getattr(sagemaker, f"list_{kind}")()
    assert names(answer) == NAMES[::-1]
    assert "NextToken" not in answer


@pytest.mark.parametrize("kind", ["models", "endpoint_configs", "endpoints"])
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("sort_by", ["Name", "CreationTime"])
@pytest.mark.parametrize("order", ["Ascending", "Descending"])
def test_pages_together_are_the_list(
    sagemaker: Any, kind: str, size: int, sort_by: str, order: str
) -> None:
    paginator = sagemaker.get_paginator(f"list_{kind}")
    pages = list(paginator.paginate(SortBy=sort_by, SortOrder=order, MaxResults=size))
    assert all(len(names(page)) == size for page in pages[:-1])
    found = list(itertools.chain.from_iterable(map(names, pages)))
    expected = sorted(NAMES) if sort_by == "Name" else NAMES
    assert found == (expected if order == "Ascending" else expected[::-1])


def test_endpoints_sort_by_status(sagemaker: Any) -> None:
    pages = sagemaker.get_paginator("list_endpoints").paginate(
        SortBy="Status", SortOrder="Ascending", MaxResults=2
    )
    assert list(itertools.chain.from_iterable(map(names, pages))) == [
        *("alpha", "delta", "gamma"),
        *("Alpha-2", "beta"),
    ]


def test_a_page_has_ten(api: RunningApi, sagemaker: Any) -> None:
    for number in range(10):
        more = Definition(name=f"m-{number}", request={}, created=10.0)
        api.call(partial(api.state.models.put, more))
    first = sagemaker.list_models()
    assert len(names(first)) == 10
    second = sagemaker.list_models(NextToken=first["NextToken"])
    assert names(second) == NAMES[::-1]
    assert len(names(sagemaker.list_models(MaxResults=100))) == 15


def test_what_comes_and_goes_between_pages_moves_nothing(api: RunningApi, sagemaker: Any) -> None:
    query = {"SortBy": "Name", "SortOrder": "Ascending", "MaxResults": 2}
    first = sagemaker.list_models(**query)
    assert names(first) == ["Alpha-2", "alpha"]
    api.call(lambda: api.state.models.remove("alpha"))
    api.call(lambda: api.state.models.put(Definition(name="Aaa", request={}, created=9.0)))
    second = sagemaker.list_models(**query, NextToken=first["NextToken"])
    assert names(second) == ["beta", "delta"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"NameContains": "lpha"}, ["Alpha-2", "alpha"]),
        ({"NameContains": "zzz"}, []),
        ({"CreationTimeAfter": at(4)}, ["Alpha-2", "delta"]),
        ({"CreationTimeBefore": at(2)}, ["beta"]),
        ({"CreationTimeAfter": at(2), "CreationTimeBefore": at(4)}, ["gamma", "alpha"]),
    ],
)
@pytest.mark.parametrize("kind", ["models", "endpoint_configs", "endpoints"])
def test_filters(sagemaker: Any, kind: str, query: dict[str, Any], expected: list[str]) -> None:
    assert names(getattr(sagemaker, f"list_{kind}")(**query)) == expected


def test_endpoints_are_filtered_by_status_and_change(sagemaker: Any) -> None:
    assert names(sagemaker.list_endpoints(StatusEquals="InService")) == ["Alpha-2", "beta"]
    assert names(sagemaker.list_endpoints(StatusEquals="Updating")) == []
    assert names(sagemaker.list_endpoints(LastModifiedTimeAfter=at(105))) == ["Alpha-2"]
    assert names(sagemaker.list_endpoints(LastModifiedTimeBefore=at(102))) == ["beta"]


@pytest.mark.parametrize(
    "token", ["x", "", "e30=", "bnVsbA==", "W10=", "W251bGwsMSwyXQ==", "é", "A" * 8000]
)
def test_a_token_that_is_none_is_refused(sagemaker: Any, token: str) -> None:
    message = refused(sagemaker, "list_models", NextToken=token)
    assert message.startswith("Invalid NextToken")


def test_a_token_belongs_to_its_order(sagemaker: Any) -> None:
    token = sagemaker.list_models(MaxResults=1)["NextToken"]
    for query in ({"SortBy": "Name"}, {"SortOrder": "Ascending"}):
        message = refused(sagemaker, "list_models", NextToken=token, **query)
        assert message.startswith("Invalid NextToken")


def test_the_list_is_there_after_a_restart(tmp_path: Path) -> None:
    first = RunningApi(tmp_path)
    first.call(lambda: first.state.models.put(Definition(name="m", request={}, created=1.0)))
    first.close()
    again = RunningApi(tmp_path)
    try:
        assert names(again.client("sagemaker").list_models()) == ["m"]
    finally:
        again.close()
