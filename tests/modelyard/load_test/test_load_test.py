"""``modelyard load-test`` from end to end: at our endpoint, and at one that answers as AWS does."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endpoint.user import until
from tests.endpoint.yard import Yard
from tests.modelyard.load_test.aws_like import GONE, NOT_READY, OK, THROTTLED, AwsLike, Reply
from tests.modelyard.load_test.running import LIMIT_SECONDS, load_test, started
from tests.modelyard.shell import Shell

pytestmark = pytest.mark.timeout(240)

NAMES = ["a.tar.gz", "b.tar.gz", "<b>&.tar.gz"]


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    with Yard(tmp_path) as found:
        for name in NAMES:
            found.add(name)
        found.endpoint()
        yield found


def children_of(pid: int) -> list[int]:
    """Processes that it has started."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in found for child in path.read_text().split()]


def test_cold_and_warm_requests_are_told_apart(yard: Yard, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = load_test(
        "ep", "--url", yard.url, "--requests", 60, "--concurrency", 1, "--zipf", 0, "--html", page
    )
    assert done.code == 0, done
    assert "3 models found at file://" in done.err
    found = done.figures
    assert (found["requests"], found["answered"], found["models_used"]) == (60, 60, 3)
    cold, warm = (found["by_sort"][sort]["requests"] for sort in ("cold", "warm"))
    assert cold >= 3 and warm >= 1 and cold + warm == 60
    assert found["loading_wait_ms"]["least"] > 0
    assert all(row["cold"] >= 1 for row in found["per_model"])
    assert "60 in " in done.out
    text = page.read_text()
    assert "&lt;b&gt;&amp;.tar.gz" in text and "<b>&" not in text


def test_several_processes_send_one_plan(yard: Yard) -> None:
    arguments = ("ep", "--url", yard.url, "--requests", 50, "--seed", 7)
    counts = []
    for processes in (1, 3):
        done = load_test(*arguments, "--processes", processes)
        assert done.code == 0, done
        counts.append({row["model"]: row["requests"] for row in done.figures["per_model"]})
    assert counts[0] == counts[1]


def test_an_open_loop_sends_all_that_it_planned(yard: Yard) -> None:
    done = load_test(
        "ep",
        "--url",
        yard.url,
        "--rate",
        200,
        "--requests",
        80,
        "--processes",
        2,
        "--max-in-flight",
        8,
    )
    assert done.code == 0, done
    assert done.figures["requests"] == sum(done.figures["timeline"]["planned"]) == 80


def test_a_trace_is_sent_in_its_order(yard: Yard, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("time,model\n0,a\n1,b\n2,b\n2.5,b.tar.gz\n")
    done = load_test("ep", "--url", yard.url, "--trace", trace, "--speed", 100)
    assert done.code == 0, done
    rows = [(row["model"], row["requests"]) for row in done.figures["per_model"]]
    assert rows == [("b.tar.gz", 3), ("a.tar.gz", 1)]


def test_failures_of_models_are_counted_with_their_words(yard: Yard) -> None:
    (stub,) = yard.stubs()
    stub.rule("invoke", "answer", status=500, text="<i>boom</i>", times=5)
    done = load_test("ep", "--url", yard.url, "--requests", 40)
    assert done.code == 1
    (error,) = done.figures["errors"]
    assert (error["kind"], error["requests"]) == ("ModelError 500", 5)
    assert "<i>boom</i>" in error["first_words"]
    assert "5 x ModelError 500" in done.out
    assert done.figures["answered"] == 35


def test_each_model_is_sent_its_own_body(yard: Yard, tmp_path: Path) -> None:
    bodies = tmp_path / "bodies"
    bodies.mkdir()
    (bodies / "a.json").write_text("[1]")
    (bodies / "b.tar.gz.csv").write_text("1,2")
    (stub,) = yard.stubs()
    done = load_test(
        *("ep", "--url", yard.url, "--requests", 30, "--models", "a.tar.gz,b.tar.gz"),
        *("--bodies", bodies, "--zipf", "0"),
    )
    assert done.code == 0, done
    sent = {(seen.body, seen.header("Content-Type")) for seen in stub.seen("invoke")}
    assert sent == {("[1]", "application/json"), ("1,2", "text/csv")}


def test_a_dry_run_sends_nothing(yard: Yard) -> None:
    (stub,) = yard.stubs()
    done = load_test("ep", "--url", yard.url, "--rate", 5, "--dry-run")
    assert (done.code, done.figures) == (0, {})
    assert "the first of" in done.out and "Zipf, exponent 1" in done.out
    assert stub.seen("invoke") == []


# --- as AWS answers -----------------------------------------------------------------------------


def test_where_the_endpoint_does_not_tell_the_first_of_each_model_stands_apart() -> None:
    with AwsLike(lambda number, model: OK) as aws:
        done = load_test("ep", "--url", aws.url, "--models", "a,b", "--requests", 30, "--zipf", 0)
        assert aws.seen.total() == 30
    assert done.code == 0, done
    assert "cannot be described (AccessDeniedException)" in done.err
    assert done.figures["by_sort"]["first"]["requests"] == 2
    assert done.figures["by_sort"]["cold"]["requests"] == 0
    assert "first of its model" in done.out


def test_a_warm_up_is_sent_and_not_counted() -> None:
    with AwsLike(lambda number, model: THROTTLED if number == 1 else OK) as aws:
        done = load_test("ep", "--url", aws.url, "--models", "a", "--requests", 5, "--warm-up", 4)
        assert aws.seen.total() == 9
    assert done.code == 0, done
    assert (done.figures["requests"], done.figures["warm_up"]["requests"]) == (5, 4)
    assert done.figures["by_sort"]["first"]["requests"] == 0
    assert "1 of 4 warm-up requests failed" in done.out


def test_a_model_that_is_not_ready_is_asked_again_within_the_same_request() -> None:
    def decide(number: int, model: str) -> Reply:
        return NOT_READY if number <= 3 else OK

    arguments = ("--models", "a", "--requests", 4, "--concurrency", 1, "--not-ready-pause")
    with AwsLike(decide) as aws:
        done = load_test("ep", "--url", aws.url, *arguments, "10ms")
        assert aws.seen.total() == 7
    assert done.code == 0, done
    assert done.figures["not_ready"] == {"requests": 1, "answers": 3}
    with AwsLike(decide) as aws:
        done = load_test("ep", "--url", aws.url, *arguments, "0")
        assert aws.seen.total() == 4
    assert done.code == 1
    assert [each["kind"] for each in done.figures["errors"]] == ["ModelNotReadyException"]
    assert done.figures["failed"] == 3


def test_throttling_is_an_error_and_is_not_repeated() -> None:
    with AwsLike(lambda number, model: THROTTLED if number % 2 else OK) as aws:
        done = load_test("ep", "--url", aws.url, "--models", "a", "--requests", 20)
        assert aws.seen.total() == 20
    assert done.code == 1
    (error,) = done.figures["errors"]
    assert (error["kind"], error["requests"]) == ("ThrottlingException", 10)
    assert error["first_words"] == "Rate exceeded"


def test_an_endpoint_that_is_deleted_meanwhile_ends_the_run_with_a_report() -> None:
    with AwsLike(lambda number, model: OK if number <= 10 else GONE) as aws:
        done = load_test(
            *("ep", "--url", aws.url, "--models", "a", "--duration", "1h", "--give-up", "300ms")
        )
    assert done.code == 1
    assert done.figures["answered"] == 10
    assert done.figures["errors"][0]["kind"] == "ValidationError"
    assert "nobody was there to answer" in done.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_a_report(number: signal.Signals, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    with AwsLike(lambda number, model: OK) as aws:
        process = started(
            *("ep", "--url", aws.url, "--models", "a", "--duration", "1h", "--json", file)
        )
        until(lambda: aws.seen.total() >= 10, LIMIT_SECONDS)
        process.send_signal(number)
        out, err = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0, err
    found = json.loads(file.read_text())
    assert found["requests"] == found["answered"] == aws.seen.total()
    assert f"stopped by {number.name}" in out


def test_a_sender_that_dies_is_told(tmp_path: Path) -> None:
    with AwsLike(lambda number, model: OK) as aws:
        process = started("ep", "--url", aws.url, "--models", "a", "--duration", "1h")
        until(lambda: aws.seen.total() >= 100, LIMIT_SECONDS)
        (sender,) = children_of(process.pid)
        os.kill(sender, signal.SIGKILL)
        out, err = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode in (1, 2), err  # 2: it died before it told of anything
    assert "1 of our sending processes ended early" in out or "nothing was sent" in err


def test_no_sender_outlives_the_command() -> None:
    with AwsLike(lambda number, model: OK) as aws:
        process = started(
            *("ep", "--url", aws.url, "--models", "a", "--duration", "1h", "--processes", 2)
        )
        until(lambda: aws.seen.total() >= 10, LIMIT_SECONDS)
        senders = children_of(process.pid)
        process.kill()
        process.communicate(timeout=LIMIT_SECONDS)
        assert len(senders) == 2
        until(lambda: not any(map(runs, senders)), LIMIT_SECONDS)


def runs(pid: int) -> bool:
    """Whether it does; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- what cannot be done ------------------------------------------------------------------------


def test_an_endpoint_that_is_not_there_is_told_before_anything_is_sent(yard: Yard) -> None:
    done = load_test("nobody", "--url", yard.url)
    assert (done.code, done.out, done.figures) == (2, "", {})
    assert "Could not find endpoint" in done.err


def test_a_url_where_nobody_listens_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = load_test("ep", "--url", url, "--models", "a")
    assert done.code == 2
    assert "Could not connect to the endpoint URL" in done.err


@pytest.mark.parametrize(
    ("keys", "region", "told"),
    [("", "us-east-1", "Unable to locate credentials"), ("key", "", "Give --region")],
)
def test_at_aws_keys_and_a_region_are_needed(keys: str, region: str, told: str) -> None:
    done = load_test("ep", "--aws", AWS_ACCESS_KEY_ID=keys, AWS_DEFAULT_REGION=region)
    assert done.code == 2
    assert told in done.err


def test_without_an_endpoint_one_is_told_how_to_get_one(tmp_path: Path) -> None:
    done = load_test("ep", cwd=tmp_path)
    assert done.code == 2
    assert "modelyard up" in done.err and "--aws" in done.err


def test_a_report_that_cannot_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    with AwsLike(lambda number, model: OK) as aws:
        page = tmp_path / "no-such-folder" / "x.html"
        done = load_test("ep", "--url", aws.url, "--models", "a", "--html", page)
        assert aws.seen.total() == 0
    assert done.code == 2
    assert "no-such-folder/x.html cannot be written" in done.err


def test_a_report_for_a_full_disk_is_told_and_the_text_is_there() -> None:
    with AwsLike(lambda number, model: OK) as aws:
        done = load_test(
            *("ep", "--url", aws.url, "--models", "a", "--requests", 3, "--html", "/dev/full")
        )
    assert done.code == 1
    assert "No space left" in done.err
    assert done.figures["answered"] == 3 and "3 in " in done.out


def test_the_endpoint_of_modelyard_up_is_found_by_itself(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    try:
        shell.up("--models", "models")
        done = load_test(
            *("models", "--requests", 20, "--models", "echo.tar.gz", "--data", "hello"),
            cwd=tmp_path,
        )
        assert done.code == 0, done
        assert done.figures["by_sort"]["cold"]["requests"] >= 1
        assert done.figures["answered"] == 20
        sad = load_test("models", "--requests", 20, cwd=tmp_path)
        assert sad.code == 1
        assert "2 models found" in sad.err
        assert {each["kind"] for each in sad.figures["errors"]} == {"ModelError 500"}
    finally:
        shell.run("down")
    assert shell.processes() == []
