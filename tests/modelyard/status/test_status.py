"""``modelyard status`` as people run it, on real endpoints whose instances are stubs."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.endpoint.user import until
from tests.endpoint.yard import Child, Yard
from tests.modelyard.conftest import COMMAND, environment

LIMIT_SECONDS = 110
HOSTILE = "<b>[red]" + "x" * 200 + ".tar.gz"
ALTERNATE, BACK = "\x1b[?1049h", "\x1b[?1049l"


def variables(**given: str) -> dict[str, str]:
    """Of a shell that knows no endpoint but what it is given."""
    plain = {name: value for name, value in environment().items() if not name.startswith("AWS_")}
    none = {"AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none"}
    return {**plain, **none, "AWS_EC2_METADATA_DISABLED": "true", **given}


def status(*arguments: str, cwd: Path | None = None, **given: str) -> tuple[int, str, str]:
    """Run it to its end: exit code, standard output, standard error."""
    done = subprocess.run(
        [COMMAND, "status", *arguments],
        env=variables(**given),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


class Terminal:
    """A terminal that ``modelyard status`` runs on; all that it has printed is ``text``."""

    def __init__(self, *arguments: str, rows: int = 40, columns: int = 100) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [COMMAND, "status", *arguments],
            env=variables(TERM="xterm"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        while True:
            try:
                found = os.read(self._master, 65536)
            except OSError:  # there is nobody any more who could write
                break
            if not found:
                break
            self.text += found.decode(errors="replace")

    def shows(self, *parts: str) -> None:
        """Wait until all of it has been shown since this was asked last."""
        until(lambda: all(part in plain(self.text) for part in parts), LIMIT_SECONDS)
        self.text = ""

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """The exit code, and all that it printed at its end."""
        self.process.send_signal(number)
        code = self.process.wait(LIMIT_SECONDS)
        self.close()
        return code, self.text

    def close(self) -> None:
        """Kill it if it runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reading.join()
        os.close(self._master)


def plain(text: str) -> str:
    """Without colours and moves of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@contextmanager
def terminal(*arguments: str, rows: int = 40, columns: int = 100) -> Iterator[Terminal]:
    """One that nothing is left of."""
    made = Terminal(*arguments, rows=rows, columns=columns)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.close()


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """An endpoint with two models, one of which has been invoked."""
    with Yard(tmp_path) as made:
        made.add("hot.tar.gz", says="hot")
        made.add("cold.tar.gz", says="cold")
        made.endpoint()
        made.invoke("hot.tar.gz")
        yield made


# --- once ---------------------------------------------------------------------------------------


def test_it_shows_what_there_is(yard: Yard) -> None:
    code, out, err = status("--url", yard.url)
    assert (code, err) == (0, "")
    assert re.search(r"^ep InService$", out, re.MULTILINE)
    assert "1 of 1 instance serving" in out
    assert re.search(r"^  hot\.tar\.gz +loaded +1 ", out, re.MULTILINE)
    assert "\x1b" not in out
    assert "cold.tar.gz" not in out


def test_the_endpoint_of_the_shell_is_found(yard: Yard) -> None:
    code, out, _ = status(AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=yard.url)
    assert code == 0
    assert "hot.tar.gz" in out


def test_an_endpoint_by_its_name(yard: Yard) -> None:
    assert "hot.tar.gz" in status("ep", "--url", yard.url)[1]
    code, out, err = status("other", "--url", yard.url)
    assert (code, out) == (2, "")
    assert "there is no endpoint other: there are ep" in err


def test_json_is_the_document(yard: Yard) -> None:
    code, out, _ = status("--json", "--url", yard.url)
    (endpoint,) = json.loads(out)["endpoints"]
    assert (code, endpoint["name"], out.count("\n")) == (0, "ep", 1)
    (other,) = json.loads(status("ep", "--json", "--url", yard.url)[1])["endpoints"]
    assert list(other["variants"][0]["models"]) == ["hot.tar.gz"]


def test_a_model_that_failed_to_load_is_told_with_the_reason(yard: Yard) -> None:
    (stub,) = yard.stubs()
    stub.rule("load", "answer", status=500, text="no \x1b[31m such file")
    yard.code(lambda: yard.invoke("cold.tar.gz"))
    out = status("--url", yard.url)[1]
    assert "load failed" in out
    assert "such file" in out
    assert "\x1b" not in out


def test_a_name_that_a_terminal_could_not_stand(yard: Yard) -> None:
    yard.add(HOSTILE, says="x")
    yard.invoke(HOSTILE)
    out = status("--url", yard.url)[1]
    assert "<b>[red]x" in out
    assert "x.tar.gz" in out
    assert max(map(len, out.splitlines())) <= 100


def test_where_there_is_no_endpoint_it_says_what_to_do(tmp_path: Path) -> None:
    code, out, err = status(cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "modelyard up" in err
    code, _, err = status("--url", "http://127.0.0.1:1")
    assert code == 2
    assert "no answer from http://127.0.0.1:1" in err
    assert status("--watch", "--url", "http://127.0.0.1:1")[0] == 2


def test_what_is_no_endpoint_is_told(yard: Yard) -> None:
    (stub,) = yard.stubs()
    code, _, err = status("--url", stub.url)
    assert code == 2
    assert "is no endpoint of `modelyard up`" in err


@pytest.mark.parametrize("option", ["--watch=0", "--models=-1", "--events=x", "--url"])
def test_options_that_make_no_sense(option: str) -> None:
    code, _, err = status(option)
    assert code == 2
    assert option.split("=")[0] in err


def test_keys_are_those_of_the_shell(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    key = {"access_key_id": "key", "secret_access_key": "secret"}
    file.write_text(json.dumps({"keys": [{**key, "actions": ["sagemaker:GetStatus"]}]}))
    with Yard(tmp_path, access_file=str(file)) as yard:
        region = "us-east-1"
        code, _, err = status(
            *("--url", yard.url),
            AWS_ACCESS_KEY_ID="key",
            AWS_SECRET_ACCESS_KEY="secret",
            AWS_DEFAULT_REGION=region,
        )
        assert (code, err) == (0, "")
        code, _, err = status("--url", yard.url, AWS_DEFAULT_REGION=region)
        assert code == 2
        assert f"{yard.url} tells us nothing" in err


# --- again and again ----------------------------------------------------------------------------


def test_a_terminal_is_drawn_anew_and_given_back(yard: Yard) -> None:
    with terminal("--watch", "50ms", "--url", yard.url) as seen:
        until(lambda: ALTERNATE in seen.text, LIMIT_SECONDS)
        seen.shows("hot.tar.gz", "50", "Ctrl-C ends")
        yard.invoke("cold.tar.gz")
        seen.shows("cold.tar.gz", "per s")
        code, text = seen.end(signal.SIGINT)
    assert code == 0
    assert BACK in text


def test_sigterm_gives_the_terminal_back(yard: Yard) -> None:
    with terminal("--watch", "50ms", "--url", yard.url) as seen:
        seen.shows("hot.tar.gz")
        code, text = seen.end(signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert BACK in text
    assert "Traceback" not in text


def test_lists_are_as_long_as_the_terminal_has_room_for(yard: Yard) -> None:
    for number in range(12):
        yard.add(f"m{number:02}.tar.gz", says="m")
        yard.invoke(f"m{number:02}.tar.gz")
    with terminal("--watch", "50ms", "--url", yard.url, rows=60) as seen:
        seen.shows("hot.tar.gz", *(f"m{number:02}.tar.gz" for number in range(12)))
    with terminal("--watch", "50ms", "--url", yard.url, rows=20) as seen:
        seen.shows("hottest", "coldest", "instance")


def test_it_goes_on_when_the_endpoint_was_away(tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        child.add("m.tar.gz", says="m")
        child.endpoint()
        child.invoke("m.tar.gz")
        data = str(tmp_path / "data")
        port = child.url.rpartition(":")[2]
        with terminal("--watch", "50ms", "--url", child.url) as seen:
            seen.shows("m.tar.gz", "Ctrl-C ends")
            child.kill()
            seen.shows("as of", "no answer", "looking again", "m.tar.gz")
            child._settings |= {"port": int(port), "data_dir": data}
            child.start()
            seen.shows("Ctrl-C ends", "InService")
            assert seen.end(signal.SIGINT)[0] == 0


def test_without_a_terminal_it_prints_one_after_another(yard: Yard) -> None:
    for option, begins in (((), "ep InService"), (("--json",), '{"time"')):
        process = subprocess.Popen(
            [COMMAND, "status", "--watch", "20ms", *option, "--url", yard.url],
            env=variables(),
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            found = 0
            while found < 3:
                found += process.stdout.readline().startswith(begins)
            process.send_signal(signal.SIGINT)
            process.stdout.read()
        assert process.returncode == 0
