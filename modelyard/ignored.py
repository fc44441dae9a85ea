"""What ``modelyard up`` cannot do any more when an endpoint runs already: be it otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from container.environment import option_name, settings_from
from endpoint.settings import EndpointSettings
from modelyard.data_dir import Running


def ignored(
    settings: EndpointSettings, options: Mapping[str, str], running: Running
) -> Iterator[str]:
    """A sentence for each setting that was asked for and is another in the endpoint that runs.

    Asked for is what was given as an option, and what variables make other than the default.
    """
    now = settings_from(EndpointSettings, {}, {**running.settings, "data_dir": settings.data_dir})
    for field in fields(settings):
        wanted, is_now = getattr(settings, field.name), getattr(now, field.name)
        asked = field.name in options or wanted != field.default
        if asked and wanted != is_now:
            yield f"{option_name(field)}={_text(wanted)} is ignored: it runs with {_text(is_now)}"


def ignored_s3(s3: str | None, running: Running, *, own_s3: bool) -> Iterator[str]:
    """The same of the S3: ``s3`` is the URL that was asked for, ``own_s3`` False if none was."""
    is_now = f"its own S3 at {running.s3}" if running.own_s3 else running.s3 or "AWS's"
    if s3 is not None and (running.own_s3 or s3 != running.s3):
        yield f"--s3-endpoint-url={s3} is ignored: it runs with {is_now}"
    if not own_s3 and running.s3:
        yield f"--no-s3 is ignored: it runs with {is_now}"


def _text(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)
