"""Responses that more than one route gives."""

from __future__ import annotations

import math

import msgspec

from model_server.errors import Problem
from model_server.gateway.http_messages import JSON, HttpResponse


def json_response(content: object) -> HttpResponse:
    """200 with a JSON body."""
    return HttpResponse(200, JSON, msgspec.json.encode(content))


def problem_response(problem: Problem) -> HttpResponse:
    """The one place where a failure becomes a response."""
    response = HttpResponse(problem.status, JSON, problem.body())
    if problem.retry_after_seconds is not None:
        response.headers.append(("Retry-After", str(math.ceil(problem.retry_after_seconds))))
    return response
