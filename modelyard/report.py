"""What a check found, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from modelyard.client import Answer, Request
from modelyard.found import DEFAULT, Found

_BODY_BYTES = 500
_WIDTH = 15


@dataclass(slots=True)
class Report:
    """All that a check found out. ``problem`` is None for a model that works.

    ``load`` is the server's description of the model and the ``seconds`` that its load took.
    """

    path: str
    found: Found | None = None
    load: dict[str, Any] | None = None
    request: Request | None = None
    answers: list[Answer] = field(default_factory=list)
    problem: str | None = None
    log: list[str] = field(default_factory=list)


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "path": report.path,
        "ok": report.problem is None,
        "problem": report.problem,
        "found": _found_data(report.found),
        "load": _load_data(report.load),
        "request": _request_data(report.request),
        "answers": [_answer(answer) for answer in report.answers],
        "log": report.log,
    }


def _found_data(found: Found | None) -> dict[str, Any] | None:
    if found is None:
        return None
    settings = {
        name: {"value": value, "source": source} for name, (value, source) in found.settings.items()
    }
    return {**asdict(found), "settings": settings}


def _load_data(load: dict[str, Any] | None) -> dict[str, Any] | None:
    if load is None:
        return None
    return {"seconds": round(load["seconds"], 4), "private_bytes": load["privateBytes"]}


def _request_data(request: Request | None) -> dict[str, Any] | None:
    if request is None:
        return None
    size = len(request.body)
    return {"file": request.file, "content_type": request.content_type, "bytes": size}


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "status": answer.status,
        "seconds": round(answer.seconds, 5),
        "content_type": answer.content_type,
        "bytes": len(answer.body),
        "body": answer.body[:_BODY_BYTES].decode("utf-8", "backslashreplace"),
    }


def as_text(report: Report) -> str:
    """The report as aligned lines, the verdict last."""
    lines = [f"{name:<{_WIDTH}}{text}".rstrip() for name, text in _lines(report)]
    if report.log:
        lines += ["", "What was logged last:", *(f"  {line}" for line in report.log)]
    lines += ["", report.problem or "This model can be served."]
    return "\n".join(lines)


def _lines(report: Report) -> Iterator[tuple[str, str]]:
    yield "model", report.path
    if report.found is not None:
        yield from _found(report.found)
    if report.load is not None:
        memory = f"{in_words(report.load['privateBytes'])} of memory of its own"
        own = report.found is not None and report.found.requirements
        work = "the installation of its packages" if own else "its framework's import"
        yield "loaded", f"in {report.load['seconds']:.2f} s with {work}, {memory}"
    if report.request is not None and report.load is not None:
        kind = f"{report.request.content_type}, {in_words(len(report.request.body))}"
        yield "request", f"{report.request.file} ({kind})"
    elif report.problem is None:
        yield "request", "none sent: give one with --request, or put a request.json beside it"
    for count, answer in zip(("first", "second"), report.answers, strict=False):
        yield f"{count} answer", f"{answer.status} after {answer.seconds * 1000:.1f} ms"
    if report.answers:
        yield from _body(report.answers[-1])


def _found(found: Found) -> Iterator[tuple[str, str]]:
    yield "files", f"{found.files}, {in_words(found.bytes)}"
    yield "framework", found.framework
    yield "interface", found.interface
    if found.artifact is not None:
        yield "artifact", found.artifact
    if found.script is not None:
        yield "code", f"{found.script}: {', '.join(found.functions) or 'no functions'}"
    own = ", ".join(found.requirements)
    yield "packages", f"its own, of {own}" if own else "the server's"
    own_settings = [
        f"{name} = {value} ({source})"
        for name, (value, source) in found.settings.items()
        if source != DEFAULT
    ]
    first, *others = own_settings or ["the defaults"]
    yield "settings", first
    for line in others:
        yield "", line


def in_words(size: int) -> str:
    """A number of bytes for people."""
    if size < 10_000:
        return f"{size} bytes"
    return f"{size / 1024:.0f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"


def _body(answer: Answer) -> Iterator[tuple[str, str]]:
    yield "", f"{answer.content_type}, {in_words(len(answer.body))}"
    text = answer.body[:_BODY_BYTES].decode("utf-8", "backslashreplace")
    for line in text.splitlines():
        yield "", line
    if len(answer.body) > _BODY_BYTES:
        yield "", "…"
