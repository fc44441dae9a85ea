"""Which settings a server can start with."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import msgspec
import pytest

from model_server.settings import Settings, SettingsError

WRONG: list[tuple[str, Any]] = [
    ("port", -1),
    ("port", 65536),
    ("gateways", -1),
    ("min_workers", 0),
    ("min_workers", 1025),
    ("max_workers", -1),
    ("batch_size", 0),
    ("batch_size", 129),
    ("max_batch_delay_ms", -1.0),
    ("max_batch_delay_ms", float("inf")),
    ("threads", 0),
    ("device", "gpu"),
    ("device", "cuda:"),
    ("worker_idle_seconds", 0.0),
    ("environment_timeout_seconds", float("inf")),
    ("environments_max_bytes", -1),
    ("max_extracted_bytes", 0),
    ("max_extracted_files", 0),
    ("queue_size", 0),
    ("max_body_bytes", 0),
    ("memory_limit_bytes", -1),
    ("memory_limit_bytes", 0),
    ("memory_limit_bytes", 1 << 20),
    ("memory_limit_bytes", 1 << 60),
    ("gpu_memory_limit_bytes", 0),
    ("request_timeout_seconds", 0.0),
    ("request_timeout_seconds", float("nan")),
    ("load_timeout_seconds", -1.0),
    ("drain_timeout_seconds", 0.0),
    ("log_level", "info"),
    ("log_level", "TRACE"),
    ("log_format", "xml"),
    ("access_log", "some"),
    ("preload", "sklaern"),
    ("preload", "sklearn,cobol"),
    ("preload", "sklearn, pytorch"),
    ("preload", ""),
    ("model_roots", ()),
    ("model_roots", ("models",)),
    ("model_roots", ("/opt/ml", "models")),
]
ENDLESS = float("inf")
RIGHT: list[tuple[str, Any]] = [
    ("port", 0),
    ("port", 65535),
    ("gateways", 0),
    ("min_workers", 64),
    ("max_workers", 0),
    ("max_workers", 2),
    ("batch_size", 128),
    ("max_batch_delay_ms", 0.0),
    ("device", "cuda:1"),
    ("threads", 4),
    ("queue_size", 1),
    ("memory_limit_bytes", 1 << 30),
    ("request_timeout_seconds", 0.001),
    ("log_level", "WARNING"),
    ("access_log", "none"),
    ("preload", "none"),
    ("preload", "auto"),
    ("preload", "sklearn,pytorch,python"),
    ("model_roots", ("/",)),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_refused_and_the_setting_named(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"{name} (is|names) .*it must be"):
        Settings(**{name: value})


@pytest.mark.parametrize(("name", "value"), RIGHT)
def test_a_right_value_is_taken(name: str, value: Any) -> None:
    assert getattr(Settings(**{name: value}), name) == value


@pytest.mark.parametrize(
    "name", [field.name for field in fields(Settings) if field.type == "float"]
)
@pytest.mark.parametrize("value", [ENDLESS, 1e300])
def test_an_endless_time_limit_is_either_refused_or_can_be_written_down(
    name: str, value: Any
) -> None:
    """The settings travel to the gateways as JSON."""
    try:
        settings = Settings(**{name: value})
    except SettingsError:
        return
    again = msgspec.json.decode(msgspec.json.encode(settings), type=Settings)
    assert again == settings


def test_the_defaults_are_right_and_come_through_json_unchanged() -> None:
    settings = Settings()
    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


def test_each_setting_has_a_variable_of_its_own_and_a_line_of_text() -> None:
    names = [
        name
        for field in fields(Settings)
        for name in (field.metadata["env"], *field.metadata["also"])
    ]
    assert len(names) == len(set(names))
    prefixes = ("MODELYARD_", "SAGEMAKER_", "MMS_", "TS_", "OMP_", "HF_", "MAX_CONTENT_LENGTH")
    assert all(name.startswith(prefixes) for name in names)
    assert all(0 < len(field.metadata["text"]) <= 160 for field in fields(Settings))
    assert len(fields(Settings)) <= 48  # each needs somebody who asked for it


def test_fewer_processes_at_most_than_at_least_are_refused() -> None:
    with pytest.raises(SettingsError, match="max_workers is 2, less than min_workers"):
        Settings(min_workers=3, max_workers=2)


def test_models_have_the_servers_defaults() -> None:
    defaults = Settings(min_workers=3, batch_size=8, threads=2, device="cpu").model_defaults
    assert (defaults.min_workers, defaults.max_workers) == (3, 3)
    assert (defaults.batch_size, defaults.threads, defaults.device) == (8, 2, "cpu")
    assert Settings(max_workers=4).model_defaults.max_workers == 4


def test_what_the_handlers_need_is_handed_on() -> None:
    options = Settings(program="a.py", handler="b:c", default_accept="d/e").handler_options
    assert (options.program, options.handler, options.default_accept) == ("a.py", "b:c", "d/e")
    assert Settings().handler_options.handler is None
