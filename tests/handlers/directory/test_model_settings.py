"""A model's own settings: taken, or refused with a sentence that says what is right."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.directory.model_settings import Choice, chosen_settings, read_settings
from handlers.directory.setting_values import KEYS
from handlers.errors import ModelLoadError
from handlers.types import ModelSettings

DEFAULTS = ModelSettings()


def written(directory: Path, text: str, name: str = "modelyard.toml") -> Path:
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return directory


def of_toml(directory: Path, text: str, defaults: ModelSettings = DEFAULTS) -> ModelSettings:
    return read_settings(written(directory, text), None, defaults)


def of_yaml(directory: Path, text: str) -> ModelSettings:
    return read_settings(written(directory, text, "model-config.yaml"), None, DEFAULTS)


def refusal(directory: Path, text: str, name: str = "modelyard.toml") -> str:
    written(directory, text, name)
    with pytest.raises(ModelLoadError) as told:
        read_settings(directory, None, DEFAULTS)
    assert told.value.status == 400
    return told.value.message


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    defaults = ModelSettings(min_workers=2, max_workers=3, device="cpu")
    assert read_settings(tmp_path, None, defaults) == defaults
    assert of_toml(tmp_path, "# nothing\n", defaults) == defaults


def test_every_setting_can_be_set(tmp_path: Path) -> None:
    text = """
        min_workers = 2
        max_workers = 4
        batch_size = 8
        max_batch_delay_ms = 5
        request_timeout_seconds = 1.5
        threads = 3
        device = "cuda:1"
        pinned = true
        share_weights = false
        max_memory_bytes = 2_000_000_000
        [environment]
        GREETING = "hello"
        LEVEL = 3
        RATE = 0.5
        DEBUG = false
    """
    assert of_toml(tmp_path, text) == ModelSettings(
        min_workers=2,
        max_workers=4,
        batch_size=8,
        max_batch_delay_ms=5.0,
        request_timeout_seconds=1.5,
        threads=3,
        device="cuda:1",
        pinned=True,
        share_weights=False,
        max_memory_bytes=2_000_000_000,
        environment=(("DEBUG", "false"), ("GREETING", "hello"), ("LEVEL", "3"), ("RATE", "0.5")),
    )


def test_the_file_may_lie_in_the_code_directory_but_not_twice(tmp_path: Path) -> None:
    written(tmp_path, "threads = 2", "code/modelyard.toml")
    assert read_settings(tmp_path, None, DEFAULTS).threads == 2
    message = refusal(tmp_path, "threads = 2")
    assert "both modelyard.toml and code/modelyard.toml" in message


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "modelyard.toml").write_bytes(b"\xef\xbb\xbfthreads = 2\r\n")
    assert read_settings(tmp_path, None, DEFAULTS).threads == 2


def test_more_processes_at_least_are_more_at_most(tmp_path: Path) -> None:
    settings = of_toml(tmp_path, "min_workers = 4", ModelSettings(max_workers=2))
    assert (settings.min_workers, settings.max_workers) == (4, 4)


def test_fewer_at_most_are_fewer_at_least_than_the_server_has(tmp_path: Path) -> None:
    servers = ModelSettings(min_workers=3, max_workers=5)
    settings = of_toml(tmp_path, "max_workers = 2", servers)
    assert (settings.min_workers, settings.max_workers) == (2, 2)


def test_a_contradiction_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "min_workers = 4\nmax_workers = 2")
    assert "max_workers is 2, less than min_workers (4)" in message


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("batchsize = 2", "batch_size"),
        ("minWorkers = 2", "min_workers"),
        ("timeout = 2", "request_timeout_seconds"),
        ("Threads = 2", "threads"),
        ("[env]\nA = 1", "environment"),
        ("[enviroment]\nA = 1", "environment"),
    ],
)
def test_a_typo_is_named_and_the_right_key_suggested(tmp_path: Path, typo: str, meant: str) -> None:
    message = refusal(tmp_path, typo)
    assert f"did you mean {meant}?" in message
    assert message.startswith("modelyard.toml has the unknown key ")


def test_all_unknown_keys_are_named_with_all_that_are_known(tmp_path: Path) -> None:
    message = refusal(tmp_path, "xyzzy = 1\nplugh = 2\nthreads = 1")
    assert 'unknown keys "xyzzy", "plugh". Known are ' in message
    assert all(key in message for key in (*KEYS, "environment"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('batch_size = "8"', 'batch_size is "8"; it must be a whole number from 1 to 128'),
        ("batch_size = 129", "batch_size is 129; it must be a whole number from 1 to 128"),
        ("batch_size = 2.0", "batch_size is 2.0"),
        ("batch_size = true", "batch_size is true"),
        ("batch_size = [2]", "batch_size is a list"),
        ("batch_size = 2026-01-01", 'batch_size is "2026-01-01"'),
        (f"batch_size = 0x{'f' * 9000}", "batch_size is a number of thousands of digits"),
        (f"batch_size = {'9' * 9000}", "not valid TOML"),
        (f'device = "{"x" * 999}"', "x…; it must be"),
        ("min_workers = 0", "min_workers is 0"),
        ("threads = -1", "threads is -1"),
        ("max_batch_delay_ms = -0.1", "max_batch_delay_ms is -0.1; it must be a number from 0 to"),
        ("max_memory_bytes = -1", "max_memory_bytes is -1; it must be a whole number from 0 to 1"),
        ("max_memory_bytes = 1.5e9", "max_memory_bytes is 1500000000.0; it must be a whole number"),
        ('max_memory_bytes = "2GB"', 'max_memory_bytes is "2GB"; it must be a whole number'),
        ("request_timeout_seconds = inf", "request_timeout_seconds is Infinity"),
        ("request_timeout_seconds = nan", "request_timeout_seconds is NaN"),
        ("request_timeout_seconds = 0", "request_timeout_seconds is 0"),
        ('device = "gpu"', 'device is "gpu"; it must be "auto", "cpu", "cuda" or "cuda:N"'),
        ("device = 1", "device is 1"),
        ("pinned = 1", "pinned is 1; it must be true or false"),
        ('share_weights = "no"', 'share_weights is "no"'),
        ("[threads]\nA = 1", "threads is a table"),
        ("environment = 1", "environment must be a table"),
        ("threads = ", "line 1, column 11"),
        ("threads = 1\nthreads = 2", "line 2"),
        ("threads = 'no end", "not valid TOML"),
        ("a = " + "[" * 5000, "not valid TOML"),
    ],
)
def test_a_wrong_value_is_named_and_what_it_must_be(tmp_path: Path, text: str, words: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith("modelyard.toml")
    assert words in message


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('"A B" = 1', "use letters, digits and _"),
        ('"" = 1', "use letters, digits and _"),
        ('"A=B" = 1', "use letters, digits and _"),
        ('A = "\\u0000"', "string or a number"),
        ("A = [1]", "A"),
        ('PYTHONPATH = "x"', "only when a process starts"),
        ('LD_PRELOAD = "x"', "only when a process starts"),
        ("OMP_NUM_THREADS = 4", "use the key threads"),
        ('CUDA_VISIBLE_DEVICES = "0"', "use the key device"),
        ("MODELYARD_THREADS = 4", "for the whole server"),
    ],
)
def test_a_variable_that_could_not_work_is_refused(tmp_path: Path, entry: str, words: str) -> None:
    message = refusal(tmp_path, f"[environment]\n{entry}")
    assert "[environment]" in message
    assert words in message


def test_usual_variables_are_not_refused(tmp_path: Path) -> None:
    text = '[environment]\nLDAP_URL = "x"\nPYTHON_ENV = "x"\nHF_TASK = "x"\nhttp_proxy = ""'
    assert len(of_toml(tmp_path, text).environment) == 4


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "modelyard.toml").write_bytes("threads = 2".encode("utf-16"))
    with pytest.raises(ModelLoadError, match="not UTF-8"):
        read_settings(tmp_path, None, DEFAULTS)
    (tmp_path / "modelyard.toml").write_bytes(b"#" * 2_000_000)
    with pytest.raises(ModelLoadError, match="no settings file"):
        read_settings(tmp_path, None, DEFAULTS)


@given(st.binary(max_size=200))
def test_any_file_is_settings_or_a_refusal(tmp_path_factory: Any, data: bytes) -> None:
    directory = tmp_path_factory.mktemp("model")
    (directory / "modelyard.toml").write_bytes(data)
    (directory / "model-config.yaml").write_bytes(data)
    try:
        read_settings(directory, None, DEFAULTS)
    except ModelLoadError as error:
        assert error.status == 400


def test_settings_of_torchserve_are_taken_and_other_keys_left_to_the_handler(
    tmp_path: Path,
) -> None:
    text = """
        minWorkers: 2
        maxWorkers: 3
        batchSize: 4
        maxBatchDelay: 200
        responseTimeout: 90
        deviceType: cpu
        handler: {temperature: 0.5}
    """
    assert of_yaml(tmp_path, text) == ModelSettings(
        min_workers=2,
        max_workers=3,
        batch_size=4,
        max_batch_delay_ms=200,
        request_timeout_seconds=90,
        device="cpu",
    )


def test_a_gpu_for_torchserve_is_one_if_there_is_one(tmp_path: Path) -> None:
    assert of_yaml(tmp_path, 'deviceType: "GPU"').device == "auto"


@pytest.mark.parametrize(
    "text",
    [
        *("", "minWorkers: 0", "maxWorkers: 0", "batchSize: 4096", "batchSize: many"),
        *("deviceType: tpu", "deviceType: [gpu]", "responseTimeout: -1", "batchSize: [1]"),
        "a: &a [x,x]\nb: &b [*a,*a]\nbatchSize: [*b,*b]",
    ],
)
def test_what_torchserve_would_pass_over_is_passed_over(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert of_yaml(tmp_path, text) == DEFAULTS


def test_the_log_tells_what_was_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    of_yaml(tmp_path, "batchSize: 4096")
    assert "model-config.yaml: batch_size is 4096; it must be" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("minWorkers: [", "line 1"),
        ("a: b: c", "line 1, column 5"),
        ("- 1", "keys and values"),
        ("just text", "keys and values"),
        ("a: !!python/object:os.system {}", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("a: " + "[" * 5000, "not valid YAML"),
    ],
)
def test_broken_yaml_is_refused(tmp_path: Path, text: str, words: str) -> None:
    message = refusal(tmp_path, text, "model-config.yaml")
    assert message.startswith("model-config.yaml")
    assert words in message


def test_the_manifest_says_which_file_it_is(tmp_path: Path) -> None:
    manifest = {"model": {"configFile": "serving.yaml"}}
    written(tmp_path, "batchSize: 4", "serving.yaml")
    written(tmp_path, "batchSize: 8", "model-config.yaml")
    assert read_settings(tmp_path, manifest, DEFAULTS).batch_size == 4
    (tmp_path / "serving.yaml").unlink()
    with pytest.raises(ModelLoadError, match=r'configFile "serving.yaml", which is not there'):
        read_settings(tmp_path, manifest, DEFAULTS)


def test_our_file_wins_over_that_of_torchserve_and_both_can_be_told(tmp_path: Path) -> None:
    written(tmp_path, "minWorkers: 2\nbatchSize: 4", "model-config.yaml")
    written(tmp_path, "batch_size = 8")
    assert chosen_settings(tmp_path, None) == {
        "min_workers": Choice(2, "model-config.yaml"),
        "batch_size": Choice(8, "modelyard.toml"),
    }
    assert read_settings(tmp_path, None, DEFAULTS).batch_size == 8
