"""``modelyard up``, ``down`` and ``invoke``, with real processes from end to end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from endpoint.settings import EndpointSettings
from modelyard import cli
from modelyard.data_dir import DataDir, Running
from modelyard.endpoint_of_folder import archives_in, name_of
from modelyard.image_of_up import NoImage, find
from tests.modelyard.conftest import COMMAND
from tests.modelyard.shell import Shell, command_of, exported

KEYS = {"AWS_ACCESS_KEY_ID": "modelyard", "AWS_SECRET_ACCESS_KEY": "modelyard"}

# Uploads an archive, makes an endpoint and invokes it with nothing but what the shell knows.
SCRIPT = """
import boto3, sys
boto3.client("s3").create_bucket(Bucket="bucket")
boto3.client("s3").upload_file(sys.argv[1], "bucket", "models/m.tar.gz")
sagemaker = boto3.client("sagemaker")
container = {"Image": "any", "Mode": "MultiModel", "ModelDataUrl": "s3://bucket/models/"}
role = "arn:aws:iam::000000000000:role/any"
sagemaker.create_model(ModelName="m", ExecutionRoleArn=role, PrimaryContainer=container)
variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large",
           "InitialInstanceCount": 1}
sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
waiter = sagemaker.get_waiter("endpoint_in_service")
waiter.wait(EndpointName="e", WaiterConfig={"Delay": 0.1, "MaxAttempts": 300})
answer = boto3.client("sagemaker-runtime").invoke_endpoint(
    EndpointName="e", TargetModel="m.tar.gz", Body=b"hello")
print(answer["Body"].read().decode())
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Whatever runs there at the end of the test is stopped, and all of it is."""
    shell = Shell(tmp_path)
    yield shell
    if shell.data.is_ours:
        done = shell.run("down")
        assert done.returncode == 0, done.stderr
    assert shell.processes() == []


def test_a_shell_that_evaluates_what_up_prints_has_a_boto3_that_works(shell: Shell) -> None:
    (shell.directory / "script.py").write_text(SCRIPT)
    line = f'eval "$({COMMAND} up --detach)" && {sys.executable} script.py models/echo.tar.gz'
    done = subprocess.run(
        ["bash", "-c", line],
        env=shell.environment,
        cwd=shell.directory,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "hello\n"


def test_up_prints_what_boto3_needs_and_nothing_else(shell: Shell) -> None:
    found = shell.up()
    running = shell.running()
    assert found == {
        "AWS_ENDPOINT_URL_SAGEMAKER": running.url,
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": running.url,
        "AWS_ENDPOINT_URL_CLOUDWATCH": running.url,
        "AWS_ENDPOINT_URL_S3": running.s3,
        "AWS_DEFAULT_REGION": "us-east-1",
        **KEYS,
    }
    assert shell.up(**found) == found  # in a shell that has evaluated it
    theirs = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_REGION": "eu-west-1"}
    theirs["AWS_DEFAULT_REGION"] = "eu-west-1"
    assert set(shell.up(**theirs)) == {name for name in found if "_URL" in name}


def test_a_folder_of_archives_becomes_an_endpoint_that_invoke_finds(shell: Shell) -> None:
    done = shell.run("up", "--detach", "--no-s3", "--models", "models")
    assert done.returncode == 0, done.stderr
    assert "modelyard invoke models echo.tar.gz" in done.stderr
    answer = shell.run("invoke", "models", "echo.tar.gz", "--data", "hi")
    assert (answer.stdout, answer.stderr, answer.returncode) == ("hi", "", 0)
    request = shell.directory / "request.json"
    request.write_text('{"a": 1}')
    url = shell.running().url
    by_url = shell.run("invoke", "models", "echo.tar.gz", "--body", request, "--url", url)
    assert by_url.stdout == '{"a": 1}'
    elsewhere = shell.run(
        *("invoke", "models", "echo.tar.gz", "--body", request),
        MODELYARD_UP_DATA_DIR="nowhere",
        AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=url,
    )
    assert elsewhere.stdout == '{"a": 1}'


def test_invoke_says_what_the_model_or_the_endpoint_has_against_it(shell: Shell) -> None:
    shell.up("--no-s3", "--models", "models", "--name", "mine")
    sad = shell.run("invoke", "mine", "sad.tar.gz", "--data", "x")
    assert (sad.returncode, sad.stdout) == (1, "")
    assert "ModelError" in sad.stderr and "ValueError" in sad.stderr
    missing = shell.run("invoke", "mine", "missing.tar.gz", "--data", "x")
    assert missing.returncode == 1 and "missing.tar.gz" in missing.stderr
    unknown = shell.run("invoke", "yours", "echo.tar.gz", "--data", "x")
    assert unknown.returncode == 1 and "yours" in unknown.stderr
    no_file = shell.run("invoke", "mine", "echo.tar.gz", "--body", "none.csv")
    assert no_file.returncode == 2 and "none.csv" in no_file.stderr


def test_a_second_up_leaves_what_runs_and_adds_or_changes_the_folders_endpoint(
    shell: Shell,
) -> None:
    first = shell.up("--no-s3")
    pid = shell.running().pid
    assert shell.up("--models", "models", "--name", "m") == first
    one = shell.instances()
    done = shell.run("up", "--models", "models", "--name", "m")  # not detached, and yet it returns
    assert done.returncode == 0 and f"already, as process {pid}" in done.stderr
    assert shell.instances() == one
    shell.up("--models", "models", "--name", "m", "--instances", "2")
    described = shell.client("sagemaker").describe_endpoint(EndpointName="m")
    assert described["EndpointStatus"] == "InService"
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert shell.running().pid == pid


def test_a_second_up_says_which_options_it_cannot_follow(shell: Shell) -> None:
    shell.up("--no-s3", "--spill-requests", "7")
    same = shell.run("up", "--detach", "--no-s3", "--spill-requests", "7")
    assert (same.returncode, "ignored" in same.stderr) == (0, False)
    other = shell.run(
        *("up", "--detach", "--spill-requests", "4", "--s3-endpoint-url", "http://x"),
        MODELYARD_UP_REGION="eu-west-1",
    )
    assert other.returncode == 0
    told = [line for line in other.stderr.splitlines() if "ignored" in line]
    then = "; `modelyard down` first to change it"
    assert told == [
        f"--region=eu-west-1 is ignored: it runs with us-east-1{then}",
        f"--spill-requests=4 is ignored: it runs with 7{then}",
        f"--s3-endpoint-url=http://x is ignored: it runs with AWS's{then}",
    ]


def test_an_endpoint_without_containers_is_not_given_an_image(shell: Shell) -> None:
    shell.up("--no-s3", "--models", "models")
    done = shell.run("up", "--detach", "--models", "models", "--image", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--fleet=docker is ignored: it runs with local; `modelyard down` first" in done.stderr
    assert "--image needs the fleet 'docker', and it is 'local'" in done.stderr
    assert shell.run("invoke", "models", "echo.tar.gz", "--data", "1").stdout == "1"


def test_an_image_needs_the_engines_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(NoImage, match=r"pip install 'modelyard\[docker\]'"):
        find("x", EndpointSettings(fleet="docker"), {})


def test_a_killed_endpoint_is_followed_by_one_that_takes_over(shell: Shell) -> None:
    before = shell.up("--models", "models")
    assert shell.run("invoke", "models", "echo.tar.gz", "--data", "1").stdout == "1"
    shell.client("s3").create_bucket(Bucket="kept")
    instances = shell.instances()
    assert len(instances) >= 1
    shell.kill()
    after = shell.up()
    assert after["AWS_ENDPOINT_URL_S3"] == before["AWS_ENDPOINT_URL_S3"]
    assert [b["Name"] for b in shell.client("s3").list_buckets()["Buckets"]] == ["kept"]
    assert shell.run("invoke", "models", "echo.tar.gz", "--data", "2").stdout == "2"
    assert set(instances) <= set(shell.instances())


def test_down_stops_what_a_killed_endpoint_left_and_the_next_up_brings_it_back(
    shell: Shell,
) -> None:
    found = shell.up("--models", "models")
    shell.kill()
    assert len(shell.processes()) >= 2
    done = shell.run("down")
    assert done.returncode == 0
    assert "1 instance of a killed endpoint stopped" in done.stderr
    assert shell.processes() == []
    # The shell has evaluated what the first one printed: its S3 is ours, too.
    again = shell.up(**found)
    assert again["AWS_ENDPOINT_URL_S3"] == found["AWS_ENDPOINT_URL_S3"]
    assert shell.run("invoke", "models", "echo.tar.gz", "--data", "3").stdout == "3"


def test_down_can_be_repeated_and_forgets_when_asked(shell: Shell) -> None:
    assert "no endpoint has run" in shell.run("down").stderr
    shell.up("--no-s3")
    assert "has stopped" in shell.run("down").stderr
    assert shell.run("down").returncode == 0
    assert (shell.data.path / "state.sqlite").exists()
    assert shell.run("down", "--forget").returncode == 0
    assert not shell.data.path.exists()


def test_down_forgets_no_directory_that_is_not_ours(shell: Shell) -> None:
    assert shell.run("down", "--forget", "--data-dir", shell.models).returncode == 0
    assert (shell.models / "echo.tar.gz").exists()


@pytest.mark.parametrize("theirs", ["lock", "notes.txt", "running.sh", "team/log"])
def test_forgetting_leaves_what_is_somebody_elses(shell: Shell, theirs: str) -> None:
    here = shell.directory / "project"
    file = here / theirs
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    assert "no endpoint has run" in shell.run("down", "--forget", "--data-dir", here).stderr
    shell.up("--no-s3", "--data-dir", here)
    assert shell.run("down", "--data-dir", here).returncode == 0
    done = shell.run("down", "--forget", "--data-dir", here)
    assert done.returncode == 0 and "but for what is not ours" in done.stderr
    assert [path for path in here.rglob("*") if path.is_file()] == [file]
    assert file.read_text() == "mine"


@pytest.mark.parametrize("theirs", ["log", "instances", "s3", "state.sqlite"])
def test_a_directory_with_somebodys_own_under_a_name_of_ours_is_not_used(
    shell: Shell, theirs: str
) -> None:
    here = shell.directory / "project"
    here.mkdir()
    (here / theirs).write_text("mine")
    done = shell.run("up", "--detach", "--no-s3", "--data-dir", here)
    assert done.returncode == 2
    assert f"a {theirs} of somebody else; give an empty or a new --data-dir" in done.stderr
    assert [path.name for path in here.iterdir()] == [theirs]
    assert (here / theirs).read_text() == "mine"


def test_in_the_foreground_a_signal_stops_the_endpoint_and_its_instances(shell: Shell) -> None:
    process = shell.start("up", "--models", "models")
    assert process.stdout is not None
    url = exported(process.stdout.readline())["AWS_ENDPOINT_URL_SAGEMAKER"]
    assert url == shell.running().url
    assert shell.run("invoke", "models", "echo.tar.gz", "--data", "1").stdout == "1"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert shell.processes() == []


def test_a_start_that_is_broken_off_leaves_nothing(shell: Shell) -> None:
    process = shell.start("up")
    while not any(b"moto.server" in command_of(pid) for pid in shell.processes()):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert shell.processes() == []


def test_the_endpoint_of_a_killed_command_ends_in_order(shell: Shell) -> None:
    process = shell.start("up", "--no-s3")
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    assert shell.data.wait_until_free(60)
    assert shell.data.last() is None


def test_the_command_ends_when_the_endpoint_is_taken_down(shell: Shell) -> None:
    process = shell.start("up", "--no-s3")
    assert process.stdout is not None
    process.stdout.readline()
    assert shell.run("down").returncode == 0
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--prt", "1"], "--prt"),
        (["--port", "x"], "--port='x': it must be a whole number"),
        (["--fleet", "moon"], "fleet='moon'"),
        (["--models", "none"], "there is no folder none"),
        (["--name", "x"], "--models DIR"),
        (["--image", "x"], "--models DIR"),
        (["--image", "x", "--models", "models", "--fleet", "static"], "fleet 'docker', and it is"),
        (
            ["--image", "x", "--models", "models", "--docker-url", "unix:///proc/none"],
            "no container engine answers",
        ),
        (["--instances", "0", "--models", "models"], "--instances"),
        (["--no-s3", "--s3-endpoint-url", "http://x"], "not allowed with"),
        (["--data-dir", "/proc/none"], "/proc/none cannot be used"),
        (["--access-file", "none.json", "--no-s3"], "none.json"),
        (["--host", "0.0.0.0", "--no-s3"], "open_to_all=true"),
        (["--port", "70000"], "port=70000: it must be 65535 or less"),
    ],
)
def test_what_cannot_be_done_as_asked_is_told_and_nothing_runs(
    shell: Shell, arguments: list[str], told: str
) -> None:
    done = shell.run("up", "--detach", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert shell.processes() == []


@pytest.mark.parametrize("command", [["up"], ["down"], ["invoke", "ep"]])
@pytest.mark.parametrize(("name", "value"), [("PORT", "x"), ("FLEET", "moon")])
def test_every_command_tells_of_settings_that_are_wrong(
    shell: Shell, command: list[str], name: str, value: str
) -> None:
    done = shell.run(*command, **{f"MODELYARD_UP_{name}": value})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"modelyard {command[0]}: ")
    assert f"='{value}': it must be " in done.stderr and done.stderr.count("\n") == 1


def test_a_port_that_is_in_use_is_told(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = shell.run("up", "--detach", "--no-s3", "--port", port)
        attached = shell.run("up", "--no-s3", "--port", port)
    for each in (done, attached):
        assert each.returncode == 2
        assert f"cannot listen on 127.0.0.1:{port}" in each.stderr


def test_an_endpoint_that_cannot_be_made_ends_what_was_started_for_it(shell: Shell) -> None:
    done = shell.run(
        "up", "--detach", "--no-s3", "--models", "models", "--local-command", "no-such-command"
    )
    assert done.returncode == 1
    assert "no-such-command" in done.stderr
    assert shell.data.running() is None


def test_a_misspelt_variable_is_told(shell: Shell) -> None:
    done = shell.run("up", "--detach", "--no-s3", MODELYARD_UP_PRT="1")
    assert "MODELYARD_UP_PRT is no setting; did you mean MODELYARD_UP_PORT?" in done.stderr


def test_invoke_without_an_endpoint_says_how_to_start_one(shell: Shell) -> None:
    done = shell.run("invoke", "models", "echo.tar.gz")
    assert done.returncode == 2
    assert "modelyard up" in done.stderr


def test_without_its_packages_a_command_says_what_to_install(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli._of_extra("up", "json", "no_such_package")([]) == 2
    assert "no_such_package: pip install 'modelyard[up]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("models", "models"),
        ("my_models.v2", "my-models-v2"),
        ("--x--", "x"),
        ("…", "models"),
        ("a" * 100, "a" * 63),
        ("a" * 62 + "_b", "a" * 62),
    ],
)
def test_a_folders_name_is_made_fit_for_an_endpoint(folder: str, name: str) -> None:
    assert name_of(Path("/x") / folder) == name


def test_archives_are_found_in_folders_below(tmp_path: Path) -> None:
    for name in ("b.tar.gz", "a/c.tgz", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert archives_in(tmp_path) == ["a/c.tgz", "b.tar.gz"]


def test_what_runs_is_known_only_while_it_does(tmp_path: Path) -> None:
    data = DataDir(str(tmp_path / "data"))
    running = Running(os.getpid(), "http://x", "", False, "us-east-1", {"port": "1"})
    assert (data.holder(), data.running(), data.last()) == (None, None, None)
    with data.locked():
        assert data.holder() == os.getpid()
        assert data.running() is None
        data.announce(running)
        assert data.running() == running
    assert (data.holder(), data.last()) == (None, None)


def test_what_failed_is_remembered_for_those_who_clean_up(tmp_path: Path) -> None:
    data = DataDir(str(tmp_path / "data"))
    running = Running(1, "http://x", "", False, "us-east-1", {})
    with pytest.raises(KeyError), data.locked():
        data.announce(running)
        raise KeyError
    assert data.running() is None
    assert data.last() == running
