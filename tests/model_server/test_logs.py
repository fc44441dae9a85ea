"""Log lines: readable by people and machines, whole, and never in anybody's way."""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from model_server import logs

from ..contract.endpoint import Endpoint
from ..contract.polling import eventually
from ..contract.server import OwnServer
from .conftest import Yard
from .test_controller import add_model

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO   |WARNING|ERROR  ) [\w.]+ .+"
)
START = """
import logging, os, subprocess, sys, time
from model_server import logs
"""


def run(code: str, **options: Any) -> list[str]:
    """The lines that such a process writes to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", START + code],
        stderr=subprocess.PIPE,
        timeout=30,
        check=True,
        **options,
    )
    lines: list[str] = done.stderr.decode().splitlines()
    return lines


def events(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


WORKER = """
logs.configure("INFO", FORMAT)
logs.context.model, logs.context.request_id = "team/iris", "id-7"
logs.capture_prints()
"""


def worker(code: str, log_format: str = "json") -> str:
    return WORKER.replace("FORMAT", repr(log_format)) + code


def test_plain_lines_are_time_level_logger_and_message() -> None:
    lines = run("logs.configure('INFO', 'plain'); logging.getLogger('a.b').warning('one %s', 2)")
    assert len(lines) == 1
    assert LINE.fullmatch(lines[0])
    assert lines[0].endswith(" WARNING a.b one 2")


def test_json_lines_have_the_same_and_the_labels() -> None:
    code = worker("logging.getLogger('a').error('x')")
    (event,) = events(run(code))
    assert event.pop("time").endswith("Z")
    assert event == {
        "level": "ERROR",
        "logger": "a",
        "model": "team/iris",
        "request_id": "id-7",
        "message": "x",
    }


def test_plain_lines_have_the_labels_too() -> None:
    (line,) = run(worker("logging.warning('hello')", "plain"))
    assert line.endswith(" root model='team/iris' request_id='id-7' hello")


def test_what_is_below_the_level_is_not_written() -> None:
    assert run("logs.configure('WARNING', 'plain'); logging.info('x'); logging.debug('x')") == []


def test_a_traceback_is_one_string_in_json_and_follows_the_line_in_plain() -> None:
    code = "\ntry: 1 / 0\nexcept Exception: logging.exception('it failed')"
    (event,) = events(run(worker(code)))
    assert event["message"] == "it failed"
    assert event["exception"].startswith("Traceback") and "ZeroDivisionError" in event["exception"]
    lines = run(worker(code, "plain"))
    assert lines[0].endswith("it failed")
    assert lines[1].startswith("Traceback") and lines[-1].startswith("ZeroDivisionError")


def test_prints_are_events_a_line_each_with_their_labels() -> None:
    code = "print('one'); print('two\\n\\nthree', flush=True); print('four', file=sys.stderr)"
    found = events(run(worker(code)))
    assert [(event["logger"], event["level"], event["message"]) for event in found] == [
        ("stdout", "INFO", "one"),
        ("stdout", "INFO", "two"),
        ("stdout", "INFO", "three"),
        ("stderr", "WARNING", "four"),
    ]
    assert {(event["model"], event["request_id"]) for event in found} == {("team/iris", "id-7")}


def test_what_is_printed_in_parts_is_one_event() -> None:
    found = events(run(worker("print('a', end=''); print('b', end=''); print('c')")))
    assert [event["message"] for event in found] == ["abc"]


def test_a_print_in_any_bytes_is_an_event() -> None:
    code = "sys.stdout.buffer.write(b'\\xff\\xfe\\0\\n'); sys.stdout.flush(); print('\\ud800')"
    assert len(events(run(worker(code)))) == 2


def test_a_print_cannot_make_lines_of_its_own() -> None:
    code = """print('x\\r{"level": "ERROR"}'); print('a\\u2028b\\x85c\\x0bd')"""
    raw = subprocess.run(
        [sys.executable, "-c", START + worker(code)], stderr=subprocess.PIPE, check=True
    ).stderr
    assert len(events([line.decode() for line in raw.split(b"\n")[:-1]])) == 2


def test_user_code_may_close_standard_output_and_error_and_still_be_logged() -> None:
    code = "os.close(1); os.close(2); print('still'); logging.warning('here')"
    assert [event["message"] for event in events(run(worker(code)))] == ["still", "here"]


def test_a_line_without_end_is_cut_into_events() -> None:
    found = events(run(worker("print('x' * 300_000)")))
    assert sum(len(event["message"]) for event in found) <= 300_000
    assert max(len(event["message"]) for event in found) <= 300_000


def test_a_long_event_is_still_json() -> None:
    assert len(events(run(worker("logging.warning('x' * 1_000_000)")))) == 1


def test_a_long_event_is_cut() -> None:
    (line,) = run(worker("logging.warning('x' * 1_000_000)", "plain"))
    assert 10_000 < len(line) <= logs.MAX_LINE_BYTES


def test_long_names_are_cut_in_labels() -> None:
    (event,) = events(run(worker("logs.context.model = 'n' * 10_000; logging.warning('x')")))
    assert len(event["model"]) < 300


def test_long_lines_of_several_processes_do_not_mix() -> None:
    code = """
logs.configure("INFO", "json")
pids = []
for number in range(4):
    pid = os.fork()
    if not pid:
        for turn in range(40):
            logging.info("%d:%s", number, str(number) * (20_000 if turn % 2 else 10))
        os._exit(0)
    pids.append(pid)
for pid in pids:
    os.waitpid(pid, 0)
"""
    lines = run(code)
    assert len(lines) == 160
    for event in events(lines):
        number, _, text = event["message"].partition(":")
        assert text in (number * 20_000, number * 10)


def test_long_lines_reach_a_pipe_that_somebody_made_non_blocking() -> None:
    code = "\nos.set_blocking(2, False)\nfor _ in range(50): logging.warning('x' * 30_000)"
    with subprocess.Popen(
        [sys.executable, "-c", START + worker(code)], stderr=subprocess.PIPE
    ) as process:
        assert process.stderr
        lines = process.stderr.read().decode().splitlines()
    assert process.returncode == 0
    assert {len(event["message"]) for event in events(lines)} == {30_000}
    assert len(lines) == 50


def test_a_log_that_nobody_reads_does_not_stop_an_event_loop() -> None:
    code = """
listener = logs.configure_in_background("INFO", "json")
started = time.monotonic()
for number in range(30_000):
    logging.info("%d %s", number, "x" * 100)
print(time.monotonic() - started, flush=True)
sys.stdin.read()
os._exit(0)
"""
    with subprocess.Popen(
        [sys.executable, "-c", START + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout and process.stdin
        assert float(process.stdout.readline()) < 15
        process.communicate()


def test_a_log_that_nobody_has_open_any_more_stops_nobody() -> None:
    code = worker("\nfor _ in range(10): logging.warning('x'); print('y')\nos.write(7, b'done')")
    read, write = os.pipe()
    gone_read, gone_write = os.pipe()
    os.close(gone_read)
    command = [sys.executable, "-c", START + code.replace("os.write(7", f"os.write({write}")]
    with subprocess.Popen(command, stderr=gone_write, pass_fds=[write]) as process:
        os.close(gone_write)
        os.close(write)
        assert os.read(read, 10) == b"done"
        os.close(read)
    assert process.returncode is not None


def test_events_in_the_background_are_written_before_the_end() -> None:
    code = """
listener = logs.configure_in_background("INFO", "json")
for number in range(100):
    logging.info("%d", number)
listener.stop()
"""
    assert [event["message"] for event in events(run(code))] == [str(n) for n in range(100)]


def test_a_full_queue_drops_events_and_does_not_wait() -> None:
    records: queue.Queue[logging.LogRecord] = queue.Queue(maxsize=3)
    handler = logs._DroppingHandler(records)
    record = logging.LogRecord("a", logging.INFO, "", 0, "x", None, None)

    def flood() -> None:
        for _ in range(10):
            handler.emit(record)

    thread = threading.Thread(target=flood)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert records.qsize() == 3


TALKS = """
import logging
def model_fn(model_dir):
    print("loading")
    return None
def transform_fn(model, body, content_type, accept):
    print("printed", body.decode())
    logging.getLogger("mine").warning("logged %s", body.decode())
    if body == b"fail":
        raise ValueError("a bad value")
    return "done"
"""


def logged(own: OwnServer, check: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """The server's events that ``check`` is true of, once there are any."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        lines = own.log.read_text().splitlines()
        ours = [json.loads(line) for line in lines if line.startswith("{")]
        found[:] = [event for event in ours if check(event)]
        return bool(found)

    assert eventually(look), own.log_tail()
    return found


def test_what_a_model_prints_logs_and_raises_carries_its_name_and_the_request_id(
    shared: tuple[OwnServer, Endpoint],
) -> None:
    own, endpoint = shared
    endpoint.load_url("talks", add_model(own.models_dir, "talks", TALKS))
    for body in (b"well", b"fail"):
        headers = {"X-Amzn-SageMaker-Inference-Id": f"id-{body.decode()}"}
        endpoint.invoke("talks", body, headers)
    assert logged(own, lambda e: e["message"] == "loading" and e.get("model") == "talks")
    for said_in in ("well", "fail"):
        request_id = f"id-{said_in}"
        found = logged(own, lambda e, r=request_id: e.get("request_id") == r)  # type: ignore[misc]
        said = {(e["logger"], e["message"]) for e in found if e.get("model") == "talks"}
        assert {("stdout", f"printed {said_in}"), ("mine", f"logged {said_in}")} <= said
    (raised,) = logged(own, lambda e: "exception" in e and e.get("request_id") == "id-fail")
    assert raised["model"] == "talks"
    assert "ValueError: a bad value" in raised["exception"]
    assert "inference.py" in raised["exception"]


def test_every_request_is_in_an_access_log_of_all(shared: tuple[OwnServer, Endpoint]) -> None:
    own, endpoint = shared
    name = endpoint.loaded("echo")
    endpoint.invoke(name, b"x", {"X-Amzn-SageMaker-Inference-Id": "id-access"})
    (line,) = logged(
        own, lambda e: e["logger"] == "modelyard.access" and e.get("request_id") == "id-access"
    )
    assert re.fullmatch(rf"POST /models/{name}/invoke 200 1 bytes \d+\.\d ms", line["message"])


@pytest.mark.parametrize("kind", ["errors", "none"])
def test_an_access_log_of_less_has_less(yard: Yard, kind: str) -> None:
    own, endpoint = yard(MODELYARD_ACCESS_LOG=kind)
    for path in ("/ping", "/nowhere"):
        endpoint.send("GET", path)
    assert own.stop() == 0
    lines = [line for line in own.log.read_text().splitlines() if "modelyard.access" in line]
    assert not any("/ping 200" in line for line in lines)
    assert any("/nowhere 404" in line for line in lines) == (kind == "errors")
