"""Documented: GET /models and GET /models/{name}. Requests are snake_case, answers camelCase."""

from __future__ import annotations

from .endpoint import Endpoint


def test_a_loaded_model_is_listed_with_its_name_and_url(endpoint: Endpoint) -> None:
    name = endpoint.loaded("echo")
    reply = endpoint.list_models().json()
    assert {"modelName": name, "modelUrl": endpoint.url_of("echo")} in reply["models"]


def test_an_unloaded_model_is_no_longer_listed(endpoint: Endpoint) -> None:
    kept, gone = endpoint.loaded("echo"), endpoint.loaded("echo")
    endpoint.unload(gone)
    assert endpoint.names() == {kept}


def test_following_the_page_token_lists_every_model_once(endpoint: Endpoint) -> None:
    loaded = sorted(endpoint.loaded("echo") for _ in range(5))
    pages = endpoint.pages(limit=2)
    assert sorted(entry["modelName"] for page in pages for entry in page) == loaded


def test_the_last_page_has_no_token(endpoint: Endpoint) -> None:
    endpoint.loaded("echo")
    assert "nextPageToken" not in endpoint.list_models().json()


def test_getting_a_model_answers_its_name_and_url(endpoint: Endpoint) -> None:
    name = endpoint.loaded("echo")
    response = endpoint.get(name)
    assert response.status_code == 200
    wanted = {"modelName": name, "modelUrl": endpoint.url_of("echo")}
    assert wanted.items() <= response.json().items()


def test_getting_a_model_that_is_not_loaded_is_404(endpoint: Endpoint) -> None:
    assert endpoint.get("unknown").status_code == 404
