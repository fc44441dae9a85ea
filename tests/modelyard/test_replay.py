"""``modelyard replay``, as people run it: what it reads, what it tells, what it refuses."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from model_server.memory.policies import POLICIES
from modelyard.cli import run
from modelyard.replay import replay
from modelyard.trace_files import read_trace

CSV = "time,model,bytes,reload_seconds\n"
PLAIN = (
    "2026-11-23T10:35:{:02d}.123Z INFO    modelyard.access request_id='x' "
    "POST /models/{}/invoke 200 5 bytes 1.5 ms\n"
)
SIZES: dict[str, Any] = {
    "type": "MemoryInfo",
    "policy": "lru",
    "models": [
        {"modelName": "a b", "heldBytes": {"ram": 60}, "reloadSeconds": 2.0, "state": "READY"},
        {"modelName": "c", "heldBytes": {"ram": 40, "gpu0": 10}, "reloadSeconds": 0.0},
    ],
}


def replayed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, object]:
    assert run(["replay", *map(str, arguments), "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def rows(found: dict[str, object]) -> list[dict[str, object]]:
    assert isinstance(found["rows"], list)
    return found["rows"]


@pytest.fixture
def csv_trace(tmp_path: Path) -> Path:
    path = tmp_path / "uses.csv"
    lines = ["0,a,60,2", "1,a,,", "2026-11-23T10:00:00Z,b,60,3", "2026-11-23T10:00:01+00:00,a,,"]
    path.write_text(CSV + "\n".join(lines) + "\n")
    return path


def test_a_csv_is_replayed_under_each_policy_and_size(
    csv_trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = replayed(capsys, csv_trace, "--memory", "50%, 100%")
    assert (found["uses"], found["models"], found["totalBytes"]) == (4, 2, 120)
    assert [(r["policy"], r["memory"], r["misses"]) for r in rows(found)] == [
        ("cost_aware", "50%", 3),
        ("lru", "50%", 3),
        ("cost_aware", "100%", 2),
        ("lru", "100%", 2),
    ]
    first = rows(found)[0]
    assert (first["reloadSeconds"], first["relativeSeconds"], first["hitRatio"]) == (7.0, 1.0, 0.25)
    assert first["p99WaitSeconds"] == pytest.approx(3.0, rel=0.11)


def test_people_get_a_table_and_a_picture(
    csv_trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    assert run(["replay", str(csv_trace), "--output", str(tmp_path / "out")]) == 0
    assert "4 uses of 2 models" in capsys.readouterr().out
    assert (tmp_path / "out/replay.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out/replay.json").read_text())["uses"] == 4


def test_without_matplotlib_there_is_no_picture_but_everything_else(
    csv_trace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "modelyard.replay_plot", raising=False)
    assert run(["replay", str(csv_trace), "--output", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert "modelyard[replay]" in told.err
    assert "4 uses" in told.out
    assert (tmp_path / "out/replay.json").exists()


def as_json_line(line: str) -> str:
    event = {"time": line[:24], "level": "INFO", "logger": "modelyard.access", "request_id": "x"}
    return json.dumps({**event, "message": line.split("'x' ")[1].strip()}) + "\n"


@pytest.mark.parametrize("form", ["plain", "json"])
def test_our_access_log_is_replayed_with_sizes_of_a_saved_answer(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [PLAIN.format(at, name) for at, name in [(3, "c"), (1, "a%20b"), (2, "a%20b")]]
    if form == "json":
        lines = [as_json_line(line) for line in lines]
    lines[1:1] = ["a traceback\n", PLAIN.format(5, "gone").replace(" 200 ", " 404 ")]
    (tmp_path / "log").write_text("".join(lines))
    (tmp_path / "sizes.json").write_text(json.dumps(SIZES))
    found = replayed(capsys, tmp_path / "log", "--sizes", tmp_path / "sizes.json")
    assert (found["uses"], found["models"], found["totalBytes"]) == (3, 2, 110)
    assert found["spanSeconds"] == pytest.approx(2.0)


def azure(directory: Path, memory: str, header: str, cells: str) -> Path:
    directory.mkdir()
    (directory / "mem.csv").write_text(f"HashOwner,HashApp,AverageAllocatedMb\n{memory}\n")
    (directory / "inv.d01.csv").write_text(f"HashOwner,HashApp,HashFunction,{header}\n{cells}\n")
    return directory


@pytest.mark.parametrize("header", ["Trigger,1,2,3", "x,minute_1,minute_2,minute_3"])
def test_a_directory_of_the_azure_format_is_replayed(
    header: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = "o,a,f,http,2,0,1\no,a,g,http,0,0,100\no,b,h,timer,1,1,\no,unknown,i,timer,1,1,1"
    found = replayed(capsys, azure(tmp_path / "az", "o,a,100\no,b,50", header, cells))
    assert (found["uses"], found["models"]) == (2 + 1 + 12 + 2, 2)
    assert found["totalBytes"] == 150 << 20
    assert "1 function left out" in str(found["notes"])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("when,which\n1,a\n", "no column time and no model"),
        (CSV, "no use of a model"),
        (CSV + "soon,a,1,1\n", "line 2"),
        (CSV + "nan,a,1,1\n", "line 2"),
        (CSV + "1,a,-5,1\n", "line 2"),
        (CSV + "1,a,many,1\n", "line 2"),
        (CSV + "1,a,5,-1\n", "line 2"),
        (CSV + "1,a,5,inf\n", "line 2"),
        (CSV + "1\n", "line 2"),
        (CSV + "1,,5,1\n", "line 2"),
        (CSV + "2,a,5,1\n1,a,5,1\n", "line 3 is older"),
        ("time,model\n1,a\n2,b\n", "--sizes"),
        (CSV + f"1,{'a' * 200_000},5,1\n", "not CSV that can be read: field larger"),
        ("2026-11-23T10:35:33.123Z INFO    modelyard ready\n", "MODELYARD_ACCESS_LOG=all"),
        ("{}\n", "MODELYARD_ACCESS_LOG=all"),
    ],
)
def test_what_cannot_be_replayed_gets_one_line_and_exit_code_2(
    content: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace"
    path.write_text(content)
    refused(capsys, told, path)


def refused(capsys: pytest.CaptureFixture[str], told: str, *arguments: str | Path) -> None:
    assert run(["replay", *map(str, arguments)]) == 2
    found = capsys.readouterr()
    assert told in found.err
    assert found.err.count("\n") == 1
    assert found.out == ""


def test_nonsense_options_and_missing_files_are_refused_too(
    csv_trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, "No such file", tmp_path / "none.csv")
    refused(capsys, "neither bytes nor a share", csv_trace, "--memory", "lots")
    refused(capsys, "neither bytes nor a share", csv_trace, "--memory", "0")
    refused(capsys, "neither bytes nor a share", csv_trace, "--memory", "nan%")
    refused(capsys, "--memory: 20 bytes are less than 1 MiB", csv_trace, "--memory", "10%,20")
    refused(capsys, "no policy 'mru'", csv_trace, "--policies", "mru")
    refused(capsys, "not a saved answer of GET /memory", csv_trace, "--sizes", csv_trace)
    refused(capsys, "`inv` and with `mem`", tmp_path)
    bad = azure(tmp_path / "bad", "o,a,lots", "1", "o,a,f,1")
    refused(capsys, "no number", bad)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (CSV.encode() + "1,café,5,1\n".encode("latin-1"), "not text in UTF-8"),
        (gzip.compress(CSV.encode()), "compressed: unpack it first"),
        (bytes(range(256)), "not text in UTF-8"),
    ],
)
def test_what_is_no_text_is_told_so(
    content: bytes, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trace").write_bytes(content)
    refused(capsys, told, tmp_path / "trace")
    directory = azure(tmp_path / "az", "o,a,100", "1", "o,a,f,1")
    (directory / "mem.csv").write_bytes(content)
    refused(capsys, "mem.csv", directory)


def test_an_azure_row_that_ends_too_soon_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, "mem.csv: line 2 has too few", azure(tmp_path / "az", "o", "1", "o,a,f,1"))


def test_uses_of_models_of_unknown_size_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["c", "gone", "a%20b", "gone", "deleted"]
    lines = [PLAIN.format(at, name) for at, name in enumerate(names)]
    (tmp_path / "log").write_text("".join(lines))
    for number, model in enumerate(SIZES["models"]):
        (tmp_path / f"{number}.json").write_text(json.dumps({"models": [model]}))
    sizes = ["--sizes", str(tmp_path / "0.json"), "--sizes", str(tmp_path / "1.json")]
    assert run(["replay", str(tmp_path / "log"), *sizes]) == 0
    found = capsys.readouterr()
    assert "3 uses of 2 models left out: the size is not known, as of 'gone'" in found.err
    assert "2 uses of 2 models, 110 bytes together" in found.out
    (tmp_path / "log").write_text(lines[1])
    refused(capsys, "the size of 1 model is not known, 'gone'", tmp_path / "log", *sizes)


@pytest.mark.parametrize("prefix", ["", "web-1  | ", "\x1b[36mweb-1  | \x1b[0m"])
@pytest.mark.parametrize("form", ["plain", "json"])
@pytest.mark.parametrize("option", ["auto", "log"])
def test_a_log_is_known_among_foreign_lines_and_behind_a_prefix(
    prefix: str, form: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [PLAIN.format(at, "c") for at in range(3)]
    if form == "json":
        lines = [as_json_line(line) for line in lines]
    foreign = ["Attaching to web-1\n", "db-1 | ready, time: 5\n", "[" * 5000 + "\n"] * 20
    (tmp_path / "log").write_text("".join(foreign + [prefix + line for line in lines]))
    (tmp_path / "sizes.json").write_text(json.dumps(SIZES))
    sizes = tmp_path / "sizes.json"
    found = replayed(capsys, tmp_path / "log", "--format", option, "--sizes", sizes)
    assert found["uses"] == 3


def test_under_platform_it_is_told_what_refusals_are_charged(
    csv_trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["replay", str(csv_trace), "--policies", "platform", "--memory", "50%"]) == 0
    assert "charged the seconds of a load" in capsys.readouterr().err


def test_large_sizes_are_told_in_large_units(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "uses.csv").write_text(CSV + f"0,a,{3 << 40},1\n1,b,{5 << 30},1\n")
    assert run(["replay", str(tmp_path / "uses.csv"), "--memory", str(5 << 30)]) == 0
    out = capsys.readouterr().out
    assert "3.0 TiB together" in out
    assert "5.0 GiB" in out


def test_progress_is_told_as_a_share_of_all_runs(tmp_path: Path) -> None:
    (tmp_path / "uses.csv").write_text(CSV + "0,a,60,2\n1,b,60,2\n")
    trace = read_trace(tmp_path / "uses.csv", "csv").finish({})
    told: list[float] = []
    replay(trace, list(POLICIES.values())[:2], [("x", 60), ("y", 120)], told.append)
    assert told == [0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1]


def test_the_help_explains_the_columns(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["replay", "--help"])
    out = capsys.readouterr().out
    assert all(column in out for column in ("`refused`", "`of lru`", "`p99 wait`"))
