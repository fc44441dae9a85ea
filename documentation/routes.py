"""The tables of routes: which there are is the code's word, what they answer stands here."""

from __future__ import annotations

import re

from documentation.tables import code, table
from endpoint.api import server, web_pages
from endpoint.api.cloudwatch import cbor, protocols
from model_server.gateway.gateway import _INVOCATIONS, _ROUTES

_OF_MODELS = {
    "GET /models/{name}",
    "DELETE /models/{name}",
    "POST /models/{name}/invoke",
    f"POST {_INVOCATIONS}",
}

# By route: what is asked besides, what success is, and what else may be answered.
_CONTAINER = {
    "GET /ping": (
        "",
        '200 `{"status":"Healthy"}`',
        "503 in single-model mode until the model has loaded, and why if it cannot",
    ),
    "GET /models": (
        "`?limit=&next_page_token=`",
        '200 `{"models":[{"modelName","modelUrl"}],"nextPageToken"?}`, sorted by name, at most 100',
        "400 for a limit or token that is none",
    ),
    "POST /models": (
        'with `{"model_name","url"}`',
        "200 when the model can serve",
        "400 bad request or directory, 404 no such directory, 409 loaded already, 504 over the "
        "time limit, 507 no memory, 500 the model's code failed",
    ),
    "GET /models/{name}": (
        "",
        '200 `{"modelName","modelUrl","state",…}` with processes and memory, measured now',
        "404",
    ),
    "DELETE /models/{name}": ("", "200 when its processes are gone", "404"),
    "POST /models/{name}/invoke": (
        "",
        "what the model answers; if it had to be loaded for that, `X-Modelyard-Loading-Wait-Time` "
        "says how many microseconds that took",
        "404, 406, 415, 500, 503, 504, 507",
    ),
    "POST /invocations": (
        "",
        "the same, in single-model mode; with `X-Amzn-SageMaker-Target-Model: a.tar.gz` of that "
        "archive",
        "400 in multi-model mode",
    ),
    "GET /execution-parameters": ("", "200, for batch transform", ""),
    "GET /memory": (
        "",
        "200, [who holds how much](../concepts/memory.md#reading-get-memory)",
        "",
    ),
    "GET /memory/decisions": (
        "`?model=&limit=`",
        '200 `{"decisions":[…]}`, the newest first, at most 100 unless `limit` (1 to 1,000) says '
        "so; with `model` those that concern it",
        "400 for a limit or name that is none",
    ),
    "GET /metrics": ("", "200, [Prometheus text](metrics.md#the-container)", ""),
}

_ENDPOINT = {
    "POST /endpoints/{name}/invocations": (
        "`InvokeEndpoint`: the [errors](errors.md#the-endpoint) tell what was wrong. Beside what "
        "SageMaker sends, `X-Modelyard-Loading-Wait-Time` says how many microseconds the request "
        "waited for its model"
    ),
    "POST /": (
        "the [control plane](../concepts/endpoint.md#what-is-there), in JSON, as AWS's SDKs ask "
        "it; [CloudWatch](../how-to/read-the-metrics.md#with-boto3) as older SDKs do, in JSON or "
        "with a form"
    ),
    f"POST {cbor.PREFIX}{{Operation}}": (
        "[CloudWatch](../how-to/read-the-metrics.md#with-boto3) in CBOR, as newer SDKs ask it"
    ),
    "GET /status": (
        "[what is loaded where](status.md), and what happened lately: `?since=N` after event N; "
        "`?disk=1` with the models that are only on disk"
    ),
    "GET /metrics": "200, [Prometheus text](metrics.md#the-endpoint)",
    "GET /": "302 to `/ui`, for browsers",
    "GET /ui": "[the page](../how-to/watch-an-endpoint.md)",
    "GET /ui/feed": "what the page hears: [server-sent events](status.md#as-it-changes)",
    "GET /ui/{file}": "what the page loads",
    "GET /ping": "200 while the endpoint is up, for everybody",
}


def of_container() -> str:
    """Every route of the container. Raises AssertionError for one that is not described."""
    found = {f"{method} {path}" for path, methods in _ROUTES.items() for method in methods}
    _same(found | _OF_MODELS, set(_CONTAINER))
    rows = [
        (f"{code(route)} {asked}".strip(), success, errors)
        for route, (asked, success, errors) in _CONTAINER.items()
    ]
    return table(("request", "success", "errors"), rows)


def of_endpoint() -> str:
    """Every route of the endpoint; its modules' docstrings list them."""
    listed = f"{server.__doc__}\n{protocols.__doc__}\n{web_pages.__doc__}"
    lines = re.findall(r"^ *([A-Z]+) +(/[\w{}/-]*)", listed, re.MULTILINE)
    _same({f"{method} {path}" for method, path in lines}, set(_ENDPOINT))
    return table(("request", "answer"), [(code(route), text) for route, text in _ENDPOINT.items()])


def _same(found: set[str], described: set[str]) -> None:
    assert found == described, (
        f"routes that are not described here: {sorted(found - described)}; "
        f"described, and gone: {sorted(described - found)}"
    )
