"""From variables and options to settings."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import Field, fields
from typing import Any

import pytest

from container.environment import (
    current_environment,
    option_name,
    settings_from,
    unknown_variables,
    variables,
)
from endpoint.settings import EndpointSettings
from endpoint.settings import SettingsError as EndpointSettingsError
from model_server.settings import MIB, Settings, SettingsError

FIELDS = list(fields(Settings))
TYPED = [field for field in FIELDS if field.metadata["kind"] not in (str, tuple)]
# A value for each setting: not its default, and one that a server can start with.
OTHER = {
    "host": "127.0.0.1",
    "port": "1234",
    "multi_model": "true",
    "model_roots": "/a:/b",
    "preload": "none",
    "log_level": "DEBUG",
    "log_format": "json",
    "access_log": "all",
    "device": "cpu",
    "pinned": "true",
    "memory_limit_bytes": "1073741824",
    "eviction_policy": "lru",
    "gpu_parking": "false",
    "share_weights": "false",
    "model_requirements": "no",
}
YET_ANOTHER = {**OTHER, "port": "4321", "multi_model": "0", "model_roots": "/c", "threads": "9"}


def text_of(field: Field[Any], values: dict[str, str]) -> str:
    default = "7" if field.metadata["kind"] in (int, float) else "/some/thing"
    return values.get(field.name, default)


def by_name(field: Field[Any]) -> str:
    return field.name


def value_of(field: Field[Any], text: str) -> Any:
    return getattr(settings_from(Settings, {}, {field.name: text}), field.name)


def test_without_anything_the_defaults_hold() -> None:
    assert settings_from(Settings, {}, {}) == Settings()
    assert settings_from(Settings, {"UNRELATED": "x", "MODELYARD_UNKNOWN": "x"}, {}) == Settings()


@pytest.mark.parametrize("field", FIELDS, ids=by_name)
def test_each_variable_of_a_setting_sets_it(field: Field[Any]) -> None:
    text = text_of(field, OTHER)
    expected = value_of(field, text)
    assert expected != field.default
    for variable in variables(field):
        settings = settings_from(Settings, {variable: text}, {})
        unit = MIB if variable.endswith("_IN_MB") else 1
        assert getattr(settings, field.name) == (expected if unit == 1 else expected * unit)
        assert type(getattr(settings, field.name)) is field.metadata["kind"]


@pytest.mark.parametrize("field", [f for f in FIELDS if len(variables(f)) > 1], ids=by_name)
def test_the_first_variable_wins_over_its_alias(field: Field[Any]) -> None:
    first, *others = variables(field)
    for other in others:
        environment = {other: text_of(field, OTHER), first: text_of(field, YET_ANOTHER)}
        chosen = getattr(settings_from(Settings, environment, {}), field.name)
        assert chosen == value_of(field, text_of(field, YET_ANOTHER))


@pytest.mark.parametrize("field", FIELDS, ids=by_name)
def test_an_option_wins_over_every_variable(field: Field[Any]) -> None:
    environment = dict.fromkeys(variables(field), "nonsense that would be refused \0")
    options = {field.name: text_of(field, OTHER)}
    assert getattr(settings_from(Settings, environment, options), field.name) != field.default


@pytest.mark.parametrize("field", TYPED, ids=by_name)
@pytest.mark.parametrize("text", ["many", "1,000", "--", "0x10"])
def test_a_bad_value_is_named_with_its_variable(field: Field[Any], text: str) -> None:
    for variable in variables(field):
        with pytest.raises(SettingsError) as told:
            settings_from(Settings, {variable: text}, {})
        assert variable in str(told.value) and repr(text) in str(told.value)
    with pytest.raises(SettingsError) as told:
        settings_from(Settings, {}, {field.name: text})
    assert option_name(field) in str(told.value)


@pytest.mark.parametrize("text", ["true", "TRUE", "True", "1", "yes", "on", " true "])
def test_many_words_mean_true(text: str) -> None:
    assert settings_from(Settings, {"SAGEMAKER_MULTI_MODEL": text}, {}).multi_model is True


@pytest.mark.parametrize("text", ["false", "False", "0", "no", "off", ""])
def test_many_words_mean_false(text: str) -> None:
    assert settings_from(Settings, {"SAGEMAKER_MULTI_MODEL": text}, {}).multi_model is False


def test_a_number_may_have_space_around_it() -> None:
    assert settings_from(Settings, {"MODELYARD_QUEUE_SIZE": " 7 "}, {}).queue_size == 7


def test_roots_are_separated_by_colons() -> None:
    assert settings_from(Settings, {"MODELYARD_MODEL_ROOTS": "/a:/b::"}, {}).model_roots == (
        "/a",
        "/b",
    )


@pytest.mark.parametrize("roots", ["", ":", "models", "/a:b"])
def test_roots_must_be_absolute_directories(roots: str) -> None:
    with pytest.raises(SettingsError, match="model_roots"):
        settings_from(Settings, {"MODELYARD_MODEL_ROOTS": roots}, {})


def test_the_environment_of_the_process_is_copied_once() -> None:
    copy = current_environment()
    assert copy == dict(os.environ)
    copy["ADDED"] = "yes"
    assert "ADDED" not in os.environ


def test_options_are_the_names_with_dashes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "container", "--help"], capture_output=True, text=True, check=True
    )
    for field in FIELDS:
        assert f"{option_name(field)} VALUE" in done.stdout


def test_an_empty_number_is_as_good_as_none() -> None:
    assert settings_from(Settings, {"SAGEMAKER_MODEL_SERVER_WORKERS": ""}, {}) == Settings()
    assert (
        settings_from(
            Settings, {"MODELYARD_MIN_WORKERS": "", "SAGEMAKER_MODEL_SERVER_WORKERS": "3"}, {}
        ).min_workers
        == 3
    )


def test_a_misspelt_variable_is_told_with_the_one_that_was_meant() -> None:
    environment = {"MODELYARD_BATCH_SIZ": "4", "MODELYARD_QUEUE_SIZE": "1", "PATH": "x"}
    assert unknown_variables(environment) == {"MODELYARD_BATCH_SIZ": "MODELYARD_BATCH_SIZE"}


def test_the_endpoints_settings_are_read_in_the_same_way() -> None:
    environment = {"MODELYARD_UP_PORT": "1", "MODELYARD_UP_DISK_BYTES": "2"}
    settings = settings_from(EndpointSettings, environment, {"port": "3"})
    assert settings == EndpointSettings(port=3, disk_bytes=2)
    with pytest.raises(SettingsError, match="MODELYARD_UP_PORT='x'"):
        settings_from(EndpointSettings, {"MODELYARD_UP_PORT": "x"}, {})
    with pytest.raises(EndpointSettingsError, match="fleet='moon'"):
        settings_from(EndpointSettings, {}, {"fleet": "moon"})


def test_lists_of_the_endpoint_are_separated_by_spaces_for_urls_have_colons() -> None:
    text = " http://a:1=/x  http://b:2=/y=/z "
    settings = settings_from(EndpointSettings, {"MODELYARD_UP_STATIC_INSTANCES": text}, {})
    assert settings.static_instances == ("http://a:1=/x", "http://b:2=/y=/z")


def test_each_variable_of_the_endpoint_is_its_own() -> None:
    names = [name for field in fields(EndpointSettings) for name in variables(field)]
    assert len(set(names)) == len(names)
    assert not set(names) & {name for field in FIELDS for name in variables(field)}
    assert all(name.startswith("MODELYARD_UP_") for name in names)


def test_a_container_leaves_the_endpoints_variables_to_the_endpoint() -> None:
    environment = {"MODELYARD_UP_PRT": "1", "MODELYARD_QUEUE_SIZE": "1"}
    assert unknown_variables(environment) == {}
    meant = {"MODELYARD_UP_PRT": "MODELYARD_UP_PORT"}
    assert unknown_variables(environment, endpoint=EndpointSettings) == meant
