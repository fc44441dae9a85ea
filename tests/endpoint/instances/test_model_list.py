"""Lists of models as containers in use show them, and as none should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from endpoint.instances import container_client
from endpoint.instances.container_client import BadAnswer, ContainerClient, ContainerTimeout
from tests.endpoint.containers.running import started
from tests.endpoint.instances.clients import with_client


async def listed(client: ContainerClient) -> dict[str, str]:
    return await client.list_models()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
def test_pages_are_followed_to_the_last_which_may_be_empty(tmp_path: Path, count: int) -> None:
    names = [f"m{number}" for number in range(count)]
    with started(shows="paged", page_size=2) as stub:

        async def ask(client: ContainerClient) -> dict[str, str]:
            for name in names:
                await client.load(name, str(tmp_path), name, 10.0)
            return await client.list_models()

        assert with_client(stub.url, ask) == dict.fromkeys(names, str(tmp_path))
        assert len(stub.seen("list")) == count // 2 + 1


def test_tensorflow_lists_a_map_without_directories() -> None:
    with started(shows="tensorflow", phantoms=["a", "models"]) as stub:
        assert with_client(stub.url, listed) == {"a": "", "models": ""}


def test_triton_lists_an_empty_entry_for_what_is_not_ready() -> None:
    with started(shows="triton", phantoms=["a"]) as stub:
        assert with_client(stub.url, listed) == {"a": "/gone"}


@pytest.mark.parametrize(
    ("body", "models"),
    [
        ('{"models": []}', {}),
        ("{}", {}),
        ('{"models": [{"modelName": "a"}], "nextPageToken": null}', {"a": ""}),
        ('{"models": [{"modelName": "a", "modelUrl": null}], "nextPageToken": ""}', {"a": ""}),
        ('{"models": [{"modelName": "a", "modelUrl": "/x", "batchSize": 1}], "n": 1}', {"a": "/x"}),
    ],
)
def test_what_is_left_out_or_added_does_no_harm(body: str, models: dict[str, str]) -> None:
    rules = [{"on": "list", "do": "answer", "text": body}]
    with started(rules=rules) as stub:
        assert with_client(stub.url, listed) == models


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "it must be JSON, but starts with ''"),
        ("<html>welcome</html>", "it must be JSON, but starts with '<html>"),
        ('{"models": [],}', "it must be JSON"),
        pytest.param("[" * 100_000, "it must be JSON", id="deep"),
        ('{"models": [{"modelName": "\\ud800"}]}', "it must be JSON"),
        ("[]", "it must be a JSON object, not \\[\\]"),
        ('"ok"', "it must be a JSON object, not 'ok'"),
        ('{"status": "ok"}', "it has no list \"models\", and 'status' is 'ok'"),
        ('{"models": "none"}', "'models' is 'none'"),
        ('{"models": ["a"]}', "has no \"modelName\": 'a'"),
        ('{"models": [{"modelUrl": "/x"}]}', 'has no "modelName"'),
        ('{"models": [{"modelName": 1}]}', 'has no "modelName"'),
        ('{"models": [{"modelName": ""}]}', 'has no "modelName"'),
        ('{"models": [], "nextPageToken": [1]}', '"nextPageToken" must be a string'),
    ],
)
def test_what_is_no_list_is_refused_in_words(body: str, words: str) -> None:
    rules = [{"on": "list", "do": "answer", "text": body}]
    with started(rules=rules) as stub, pytest.raises(BadAnswer, match=f"GET /models: .*{words}"):
        with_client(stub.url, listed)


def test_another_status_is_refused_with_what_the_container_said() -> None:
    rules = [{"on": "list", "do": "answer", "status": 404, "text": "which models?"}]
    with started(rules=rules) as stub:
        with pytest.raises(BadAnswer, match="it must be 200, not 404: which models") as caught:
            with_client(stub.url, listed)
        assert caught.value.status == 404


def test_a_page_that_comes_again_ends_a_list() -> None:
    body = json.dumps({"models": [], "nextPageToken": "a&b=c"})
    with started(rules=[{"on": "list", "do": "answer", "text": body}]) as stub:
        with pytest.raises(BadAnswer, match="has no end; page 'a&b=c' came twice"):
            with_client(stub.url, listed)
        first, second = stub.seen("list")
    assert (first.path, second.path) == ("/models", "/models?next_page_token=a%26b%3Dc")


def test_a_list_has_no_more_pages_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_client, "MAX_PAGES", 3)
    with started(shows="paged", page_size=1, phantoms=list("abcd")) as stub:
        with pytest.raises(BadAnswer, match="more than 3 pages"):
            with_client(stub.url, listed)
        assert len(stub.seen("list")) == 3


def test_a_list_has_no_more_bytes_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_client, "MAX_LIST_BYTES", 100)
    with (
        started(shows="paged", page_size=1, phantoms=list("abcd")) as stub,
        pytest.raises(BadAnswer, match="more than 100 bytes"),
    ):
        with_client(stub.url, listed)


def test_a_list_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_client, "LIST_PING_TIMEOUTS", 0.01)
    rules = [{"on": "list", "do": "hang"}]
    with started(rules=rules) as stub, pytest.raises(ContainerTimeout, match="no end of the list"):
        with_client(stub.url, listed)
