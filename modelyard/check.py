"""``modelyard check``: loads a model as the server would and says what it found, or what is wrong.

The model runs in a real server of its own, so what works here works there, and nothing of it can
harm this process. When the command ends, so does everything that it has started and written.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path

from archives.errors import ExtractionError
from archives.extraction import ArchiveLimits, extract_archive
from container.environment import current_environment, settings_from
from container.submit_directory import submitted_code
from handlers.errors import HandlerError
from model_server.settings import Settings, SettingsError
from modelyard.child_server import ChildServer, ServerDidNotStart
from modelyard.client import Client, Request, find_request
from modelyard.found import look_at
from modelyard.report import Report, as_json, as_text

_INVOKES = 2
_LOG_LINES = 40


class Usage(Exception):
    """Raised when the command cannot be done as asked."""


def main(arguments: Sequence[str]) -> int:
    """Run ``modelyard check``; returns the exit code."""
    options = _options(arguments)
    environment = current_environment()
    try:
        with submitted_code(settings_from(Settings, environment, {}), environment) as settings:
            report = _check(options, settings, environment)
    except (Usage, SettingsError, ServerDidNotStart) as error:
        print(f"modelyard check: {error}", file=sys.stderr)  # noqa: T201
        return 2
    text = json.dumps(as_json(report), indent=2) if options.json else as_text(report)
    print(text)  # noqa: T201
    return 0 if report.problem is None else 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="modelyard check",
        description="Load a model as the server would, and say what it found or what is wrong.",
        epilog="Exit code: 0 the model works, 1 it does not, 2 it could not be tried.",
    )
    parser.add_argument("model", type=Path, help="its directory, or its tar.gz, tar, zip or mar")
    parser.add_argument(
        "--request", type=Path, help="a body to send; default: the model's request.json or the like"
    )
    parser.add_argument("--content-type", help="of the body; default: by the file's name")
    parser.add_argument("--accept", help="the content type to ask for")
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        type=_header,
        metavar="NAME:VALUE",
        help="sent with the request",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser.parse_args(arguments)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME:VALUE")
    return name.strip(), value.strip()


def _check(
    options: argparse.Namespace, settings: Settings, environment: Mapping[str, str]
) -> Report:
    report = Report(str(options.model))
    with tempfile.TemporaryDirectory(prefix="modelyard-check-") as work:
        try:
            directory = _directory(options.model, Path(work), settings)
            report.found = look_at(directory, settings, environment)
        except (ExtractionError, HandlerError) as error:
            message = error.message.replace(f"{work}/", "")  # it was extracted there
            report.problem = f"This model cannot be served: {message}"
            return report
        report.request = _request(options, directory)
        arguments = _server_options(directory, Path(work), settings, environment)
        with ChildServer(arguments, environment) as server:
            client = Client(server.port, timeout_seconds=_patience(settings))
            try:
                _try_out(report, client, directory)
            except (OSError, HTTPException) as error:
                report.problem = f"The server broke off while it had this model: {error!r}"
            if report.problem is not None:
                report.log = _last_lines(server, _name(directory))
    return report


def _directory(model: Path, work: Path, settings: Settings) -> Path:
    """The model's directory, extracted if it is an archive."""
    if model.is_dir():
        return model.resolve()
    if not model.is_file():
        raise Usage(f"there is no directory or archive {model}")
    target = work / model.name.partition(".")[0]
    limits = ArchiveLimits(settings.max_extracted_bytes, settings.max_extracted_files)
    extract_archive(model, target, limits)
    return target


def _request(options: argparse.Namespace, directory: Path) -> Request | None:
    """What to send, if anything."""
    headers = list(options.header)
    if options.accept:
        headers.append(("Accept", options.accept))
    try:
        return find_request(options.request, directory, options.content_type, headers)
    except OSError as error:
        raise Usage(f"{options.request} cannot be read: {error.strerror}") from error


def _server_options(
    directory: Path, work: Path, settings: Settings, environment: Mapping[str, str]
) -> list[str]:
    """One model, one gateway, nothing kept beyond this check."""
    options = {
        "--multi-model": "true",
        "--model-roots": str(directory),
        "--gateways": "1",
        "--preload": "none",
        "--access-log": "none",
        "--load-models": "",
        "--run-dir": "",
        "--submit-directory": "",
        "--shared-code-dir": settings.shared_code_dir,
        "--extract-dir": str(work / "archives"),
    }
    if "MODELYARD_ENVIRONMENTS_DIR" not in environment:
        options["--environments-dir"] = str(work / "environments")
    return [word for option in options.items() for word in option]


def _patience(settings: Settings) -> float:
    """How long the server may take for anything."""
    slowest = max(settings.load_timeout_seconds, settings.request_timeout_seconds)
    return slowest + settings.environment_timeout_seconds + 10.0


def _name(directory: Path) -> str:
    return directory.name or "model"


def _try_out(report: Report, client: Client, directory: Path) -> None:
    """Load the model, send the request, and note how that went."""
    name = _name(directory)
    client.ping()  # else its start would count as part of the load
    loaded = client.load(name, str(directory))
    if loaded.status != 200:
        report.problem = f"This model cannot be served. Its load failed with {loaded.error}"
        return
    report.load = {**client.describe(name), "seconds": loaded.seconds}
    for _ in range(_INVOKES if report.request is not None else 0):
        assert report.request is not None
        answer = client.invoke(name, report.request)
        report.answers.append(answer)
        if answer.status >= 400:
            report.problem = f"This model loads, but the request failed with {answer.error}"
            return
    report.load = {**client.describe(name), "seconds": loaded.seconds}


def _last_lines(server: ChildServer, model: str) -> list[str]:
    """What the model's processes said last, with the tracebacks of the model's code."""
    lines: list[str] = []
    for event in server.events(model) or server.events():
        # What follows is how we passed the exception on.
        traceback = str(event.get("exception", "")).partition("\n\nThe above exception was")[0]
        lines += [*str(event["message"]).splitlines(), *traceback.splitlines()]
    return lines[-_LOG_LINES:]
