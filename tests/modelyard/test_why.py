"""``modelyard why`` against a server whose memory is made up, and against a real one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from model_server import wire
from model_server.memory.decisions import Choice, Decision
from model_server.memory.ledger import MIB, RAM
from modelyard.cli import COMMANDS
from modelyard.why import main

from ..contract.conftest import endpoint_of  # noqa: F401 - a fixture
from ..contract.endpoint import Endpoint, url_of
from ..contract.server import Server, start, stop_cleanly, wait_until_healthy
from .conftest import Modelyard

ODD = "a/b \x1b[31m\n🦙"
Page = tuple[int, bytes]


def memory(*models: wire.ModelMemory) -> wire.MemoryInfo:
    ledgers = [wire.LedgerInfo(RAM, 1000 * MIB, 100 * MIB, 300 * MIB, 8 * MIB, 600 * MIB)]
    shadows = [wire.ShadowInfo("lru", 5, 1234, 90.0)]
    return wire.MemoryInfo("cost_aware", True, ledgers, list(models), shadows)


def model(name: str, *, state: str = "READY") -> wire.ModelMemory:
    worth = 1.0 if state == "READY" else None
    held = {RAM: 120 * MIB}
    return wire.ModelMemory(name, state, "python", False, held, 0.4, 7, 12.0, 3.0, worth, 1)


def decided(name: str, victim: str) -> Decision:
    gone = Choice(victim, "evict", "", RAM, 812 * MIB, 1.0, 6.7, 0.4, 240.0, 540.0)
    need, free = {RAM: 900 * MIB}, {RAM: 100 * MIB}
    return Decision(1, time.time(), name, "load", "cost_aware", need, free, "evict", victims=[gone])


class MadeUp:
    """Answers the two routes with these pages, and notes what was asked."""

    def __init__(self) -> None:
        self.memory: Page = (200, b"")
        self.decisions: Page = (200, b"")
        self.asked: list[str] = []
        self.show(memory())

    def show(self, info: wire.MemoryInfo, *decisions: Decision) -> None:
        self.memory = 200, msgspec.json.encode(msgspec.structs.asdict(info))
        self.decisions = 200, msgspec.json.encode({"decisions": decisions})

    def page(self, path: str) -> Page:
        self.asked.append(path)
        return self.memory if path == "/memory" else self.decisions


@pytest.fixture
def made_up() -> Iterator[tuple[MadeUp, str]]:
    """It and its address."""
    made = MadeUp()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = made.page(self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield made, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


Why = Callable[..., tuple[int, str, str]]


@pytest.fixture
def why(made_up: tuple[MadeUp, str], capsys: pytest.CaptureFixture[str]) -> Why:
    """Runs the command against it: exit code, output, errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["--url", made_up[1], *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_model_is_told_in_a_line_and_then_its_decisions(
    made_up: tuple[MadeUp, str], why: Why
) -> None:
    made_up[0].show(memory(model("a", state="EVICTED"), model("b")), decided("b", "a"))
    code, out, _ = why("a", "--limit", "7")
    now, then = out.splitlines()
    assert code == 0
    assert now.startswith("a: evicted at ")
    assert now.endswith(
        ", held 120 MiB, reload 0.4 s, used 7 times, last 3 s ago, 12 uses an hour, "
        "evicted once, its next request brings it back"
    )
    assert then.startswith("  evicted at ")
    assert then.endswith(" for b: 812 MiB freed, expected return in 9 min, reload 0.4 s")
    query = parse_qs(urlsplit(made_up[0].asked[1]).query)
    assert query == {"limit": ["7"], "model": ["a"]}


def test_without_a_model_the_ledgers_and_the_last_decisions_are_told(
    made_up: tuple[MadeUp, str], why: Why
) -> None:
    made_up[0].show(memory(model("a", state="EVICTED"), model("b")), decided("b", "a"))
    code, out, _ = why()
    lines = out.splitlines()
    assert code == 0
    assert lines[:4] == [
        "policy cost_aware, and models come and go too often; 2 models, 1 of them evicted",
        "  RAM: 600 MiB free of 1000 MiB; models hold 300 MiB, the server 100 MiB, "
        "8 MiB are leaving",
        "  lru would have had 1,234 reloads, 90 s in all",
        "last decisions:",
    ]
    assert lines[4].startswith("  b loaded at ")
    assert lines[4].endswith("so a (812 MiB) was evicted")
    assert made_up[0].asked[1] == "/memory/decisions?limit=20"


def test_of_a_model_that_is_gone_the_decisions_remain(
    made_up: tuple[MadeUp, str], why: Why
) -> None:
    made_up[0].show(memory(), decided("b", "a"))
    code, out, _ = why("a")
    assert code == 1
    assert out.startswith("a is not on the server; what was decided about it before:\n  evicted at")
    assert why("nobody")[0] == 1


def test_a_model_that_nobody_knows_is_told_so(why: Why) -> None:
    code, out, _ = why("churn\x07")
    assert code == 1
    assert out == ("the server has no model 'churn\\x07' and remembers no decision about it\n")


def test_any_name_is_asked_for_and_shown_without_harm(
    made_up: tuple[MadeUp, str], why: Why
) -> None:
    made_up[0].show(memory(model(ODD)), decided("b\x1b", ODD))
    code, out, _ = why(ODD)
    assert code == 0
    assert out.startswith("'a/b \\x1b[31m\\n🦙': in memory, 120 MiB")
    assert all(line.isprintable() for line in out.splitlines())
    assert parse_qs(urlsplit(made_up[0].asked[1]).query)["model"] == [ODD]


def test_the_answers_can_be_had_as_json(made_up: tuple[MadeUp, str], why: Why) -> None:
    made_up[0].show(memory(model("a")), decided("b", "a"))
    code, out, _ = why("a", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["model"]["modelName"] == "a"
    assert told["decisions"][0]["victims"][0]["freedBytes"] == 812 * MIB
    told = json.loads(why("--json")[1])
    assert told["memory"]["ledgers"][0]["name"] == RAM
    code, out, _ = why("nobody", "--json")
    assert (code, json.loads(out)["model"]) == (1, None)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, b'{"code":404,"type":"RouteNotFoundException","message":"no route"}', "no route"),
        (503, b'{"code":503,"type":"T","message":"stopping"}', "503 T: stopping"),
        (200, b"<html>", "no answer from http://"),
        (200, b'{"models": 3}', "no answer from http://"),
    ],
)
def test_a_server_without_an_answer_is_one_line(
    made_up: tuple[MadeUp, str], why: Why, status: int, body: bytes, words: str
) -> None:
    made_up[0].memory = status, body
    code, out, err = why("a")
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_no_server_and_no_sense_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    for url in ("http://127.0.0.1:1", "https://127.0.0.1:1", "nonsense", "http://[::1"):
        assert main(["a", "--url", url]) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert said.err.startswith("modelyard why: ")
    assert main(["a\udcff"]) == 2
    assert "is not UTF-8" in capsys.readouterr().err
    for limit in ("0", "1001", "x", "²"):
        with pytest.raises(SystemExit) as stopped:
            main(["--limit", limit])
        assert stopped.value.code == 2
        assert "must be a number from 1 to 1000" in capsys.readouterr().err


def test_a_running_server_is_asked(
    modelyard: Modelyard,
    tmp_path: Path,
    endpoint_of: Callable[[Server], Endpoint],  # noqa: F811
) -> None:
    assert "why" in COMMANDS
    models = tmp_path / "models"
    models.mkdir()
    settings = {
        "SAGEMAKER_MULTI_MODEL": "true",
        "MODELYARD_PRELOAD": "python",
        "MODELYARD_MODEL_ROOTS": str(models),
    }
    own = start(models, tmp_path / "log", settings)
    try:
        wait_until_healthy(own)
        loaded = endpoint_of(own).load_url(ODD, url_of(models, "echo"))
        assert loaded.status_code == 200, loaded.text
        done = modelyard("why", ODD, "--url", own.base_url)
        assert (done.returncode, done.stderr) == (0, "")
        now, then = done.stdout.splitlines()
        assert ": in memory since " in now
        assert then.startswith("  loaded at ")
        assert modelyard("why", "other", "--url", own.base_url).returncode == 1
        stop_cleanly(own)
    finally:
        own.kill()
    assert modelyard("why", ODD, "--url", own.base_url).returncode == 2
