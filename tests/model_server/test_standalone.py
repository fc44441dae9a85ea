"""Archives that requests name, without a platform that extracts and loads them."""

from __future__ import annotations

import io
import os
import signal
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from ..contract.endpoint import BEHAVIOURS, Endpoint, assert_error, path_of
from ..contract.polling import eventually
from ..contract.server import OwnServer, Server, start, stop_cleanly, wait_until_healthy
from . import inside
from .told import make

Serve = Callable[..., OwnServer]
EndpointOf = Callable[[Server], Endpoint]
LIMIT_BYTES = 1 << 20


def pack(directory: Path, archive: Path) -> Path:
    """The archive of a model, as the SDK makes it."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    fresh = archive.with_name(f".{archive.name}.new")
    with tarfile.open(fresh, "w:gz") as tar:
        for path in sorted(directory.iterdir()):
            tar.add(path, path.name)
    return fresh.rename(archive)


class Standalone:
    """A server for archives in ``folder``, which extracts them to ``extracted``."""

    def __init__(self, own: OwnServer, endpoint: Endpoint, folder: Path, extracted: Path) -> None:
        self.own, self.endpoint, self.folder, self.extracted = own, endpoint, folder, extracted

    def invoke(self, target: str | None, body: bytes = b"", **more: str) -> httpx.Response:
        headers = {"Content-Type": "application/octet-stream", **more}
        if target is not None:
            headers["X-Amzn-SageMaker-Target-Model"] = target
        return self.endpoint.send("POST", "/invocations", content=body, headers=headers)

    def left(self) -> list[Path]:
        """What lies where archives are extracted to."""
        return list(self.extracted.iterdir()) if self.extracted.exists() else []


StartStandalone = Callable[..., Standalone]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "archives"
    pack(BEHAVIOURS / "echo", made / "echo.tar.gz")
    return made


@pytest.fixture
def standalone(
    serve: Serve, endpoint_of: EndpointOf, folder: Path, tmp_path: Path
) -> StartStandalone:
    """Starts a healthy server for the archives."""

    def begin(**settings: str) -> Standalone:
        usual = {
            "MODELYARD_MODEL_DIR": str(folder),
            "MODELYARD_EXTRACT_DIR": str(tmp_path / "extracted"),
            "MODELYARD_MODEL_ROOTS": str(tmp_path),
            "MODELYARD_PRELOAD": "python",
            "MODELYARD_GATEWAYS": "1",
            "MODELYARD_MAX_EXTRACTED_BYTES": str(LIMIT_BYTES),
        }
        own = serve(**{**usual, **settings})
        wait_until_healthy(own)
        return Standalone(own, endpoint_of(own), folder, tmp_path / "extracted")

    return begin


@pytest.fixture
def loads(tmp_path: Path) -> Path:
    return tmp_path / "loads"


def count_in(path: Path) -> int:
    return len(path.read_text().split()) if path.exists() else 0


def counting(folder: Path, tmp_path: Path, name: str, loads: Path, **more: str) -> None:
    """An archive whose model writes down when it is loaded."""
    pack(make(tmp_path, "counts_loads", LOADS=loads, **more), folder / name)


def test_an_archive_is_loaded_when_it_is_first_asked_for(standalone: StartStandalone) -> None:
    yard = standalone()
    assert yard.endpoint.names() == set()
    assert yard.endpoint.ping().status_code == 200
    assert yard.invoke("echo.tar.gz", b"x").content == b"x"
    assert yard.endpoint.names() == {"echo.tar.gz"}
    assert yard.invoke("/echo.tar.gz", b"y").content == b"y"
    assert yard.endpoint.names() == {"echo.tar.gz"}
    told = yard.endpoint.get("echo.tar.gz").json()
    assert told["modelUrl"] == str(yard.folder / "echo.tar.gz")


def test_an_archive_that_was_evicted_comes_back_when_it_is_asked_for(
    standalone: StartStandalone, threads: ThreadPoolExecutor, folder: Path, tmp_path: Path
) -> None:
    logs = [tmp_path / f"loads-{number}" for number in range(3)]
    targets = [f"{log.name}.tar.gz" for log in logs]
    for target, log in zip(targets, logs, strict=True):
        pack(make(tmp_path, "holds_as_told", LOADS=log, HOLDS_MB=60), folder / target)
    yard = standalone(MODELYARD_MEMORY_LIMIT_BYTES=str(240 << 20))  # two of them
    for _ in range(2):
        assert [yard.invoke(target).status_code for target in targets] == [200] * 3
    assert sum(map(count_in, logs)) > 3
    states = {target: yard.endpoint.get(target).json()["state"] for target in targets}
    (away, *_) = (target for target, state in states.items() if state != "READY")
    assert yard.endpoint.names() == set(targets)
    assert yard.endpoint.ping().status_code == 200
    assert len(yard.left()) == 1  # what was extracted is still there
    before = count_in(logs[targets.index(away)])
    asked = [threads.submit(yard.invoke, away) for _ in range(4)]
    assert {answer.result().status_code for answer in asked} == {200}
    assert count_in(logs[targets.index(away)]) == before + 1
    assert yard.endpoint.unload(away).status_code == 200
    assert yard.invoke(away).status_code == 200  # extracted anew


def test_the_one_model_is_healthy_also_while_it_is_evicted(
    serve: Serve, endpoint_of: EndpointOf, tmp_path: Path
) -> None:
    model = make(tmp_path, "holds_as_told", LOADS=tmp_path / "one", HOLDS_MB=60)
    other = make(tmp_path, "holds_as_told", LOADS=tmp_path / "other", HOLDS_MB=100)
    with (other / "weights.bin").open("wb") as file:  # which foretell what it takes
        file.truncate(100 << 20)
    own = serve(
        MODELYARD_MODEL_DIR=str(model),
        MODELYARD_MODEL_ROOTS=str(tmp_path),
        MODELYARD_PRELOAD="python",
        MODELYARD_GATEWAYS="1",
        MODELYARD_MEMORY_LIMIT_BYTES=str(200 << 20),
    )
    wait_until_healthy(own)
    endpoint = endpoint_of(own)
    loaded = endpoint.load_url("other", str(other))
    assert loaded.status_code == 200, loaded.text
    assert own.ping_status() == 200  # the one model has left, and will be back
    assert endpoint.send("POST", "/invocations", content=b"").status_code == 200
    assert own.ping_status() == 200
    assert count_in(tmp_path / "one") == 2


def test_first_requests_at_once_load_it_once(
    standalone: StartStandalone,
    threads: ThreadPoolExecutor,
    folder: Path,
    tmp_path: Path,
    loads: Path,
) -> None:
    counting(folder, tmp_path, "counts.tar.gz", loads)
    yard = standalone()
    requests = [threads.submit(yard.invoke, "counts.tar.gz") for _ in range(24)]
    assert [each.result().status_code for each in requests] == [200] * 24
    assert count_in(loads) == 1
    (own,) = yard.left()
    assert len(list(own.iterdir())) == 1


def test_an_unknown_name_is_404_and_says_what_there_is(standalone: StartStandalone) -> None:
    yard = standalone()
    message = assert_error(yard.invoke("other.tar.gz"), 404)
    assert "other.tar.gz" in message and "echo.tar.gz" in message


@pytest.mark.parametrize(
    "name",
    [
        "../secret.tar.gz",
        "a/../../secret.tar.gz",
        "./../secret.tar.gz",
        "//../secret.tar.gz",
        "..",
        ".",
        "/",
        "x" * 10_000,
        "a/" * 5_000,
    ],
)
def test_a_name_that_is_no_name_below_the_folder_is_400(
    standalone_shared: Standalone, name: str
) -> None:
    assert_error(standalone_shared.invoke(name), 400)
    assert standalone_shared.endpoint.names() == set()


@pytest.mark.parametrize(
    "name", ["./echo.tar.gz", "echo.tar.gz/", "././echo.tar.gz", "a//echo.tar.gz"]
)
def test_an_archive_has_one_name_so_that_it_is_loaded_once(
    standalone_shared: Standalone, name: str
) -> None:
    message = assert_error(standalone_shared.invoke(name), 400)
    assert "must be written" in message and "echo.tar.gz'" in message
    assert standalone_shared.endpoint.names() == set()


@pytest.mark.parametrize("name", ["ec\0ho.tar.gz", "echo.tar.gz\0"])
def test_a_name_with_nul_is_400(standalone_shared: Standalone, name: str) -> None:
    with standalone_shared.own.connect() as connection:
        connection.send(
            f"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"
            f"X-Amzn-SageMaker-Target-Model: {name}\r\n\r\n".encode()
        )
        assert connection.receive().status == 400


@pytest.mark.parametrize("name", ["ec%00ho.tar.gz", "..%2Fsecret.tar.gz"])
def test_such_a_name_in_the_path_of_a_model_is_400(
    standalone_shared: Standalone, name: str
) -> None:
    assert_error(standalone_shared.endpoint.send("POST", f"/models/{name}/invoke"), 400)


@pytest.fixture(scope="module")
def standalone_server(
    tmp_path_factory: pytest.TempPathFactory, models_dir: Path
) -> Iterator[tuple[OwnServer, Path]]:
    directory = tmp_path_factory.mktemp("standalone")
    folder = directory / "archives"
    pack(BEHAVIOURS / "echo", folder / "echo.tar.gz")
    pack(BEHAVIOURS / "echo", directory / "secret.tar.gz")
    settings = {
        "MODELYARD_MODEL_DIR": str(folder),
        "MODELYARD_EXTRACT_DIR": str(directory / "extracted"),
        "MODELYARD_PRELOAD": "python",
    }
    own = start(models_dir, directory / "log", settings)
    try:
        wait_until_healthy(own)
        yield own, directory
        stop_cleanly(own)
    finally:
        own.kill()


@pytest.fixture
def standalone_shared(
    standalone_server: tuple[OwnServer, Path], endpoint_of: EndpointOf
) -> Standalone:
    own, directory = standalone_server
    return Standalone(own, endpoint_of(own), directory / "archives", directory / "extracted")


def test_no_header_is_400_and_says_what_to_do(standalone_shared: Standalone) -> None:
    for target in (None, ""):
        message = assert_error(standalone_shared.invoke(target), 400)
        assert "X-Amzn-SageMaker-Target-Model" in message and "echo.tar.gz" in message


def test_an_archive_in_a_subdirectory_is_named_by_its_path(
    standalone: StartStandalone, folder: Path
) -> None:
    pack(BEHAVIOURS / "echo", folder / "team" / "a b" / "ü.tar.gz")
    pack(BEHAVIOURS / "echo", folder / "team" / "plain.tar.gz")
    yard = standalone()
    assert yard.invoke("team/plain.tar.gz", b"x").content == b"x"
    assert yard.endpoint.names() == {"team/plain.tar.gz"}
    invoke = path_of("team/a b/ü.tar.gz") + "/invoke"
    assert yard.endpoint.send("POST", invoke, content=b"y").content == b"y"
    assert yard.endpoint.unload("team/plain.tar.gz").status_code == 200
    assert_error(yard.invoke("team/none.tar.gz"), 404)


def test_a_broken_archive_is_an_error_of_its_own_and_may_be_mended(
    standalone: StartStandalone, folder: Path
) -> None:
    whole = (folder / "echo.tar.gz").read_bytes()
    (folder / "broken.tar.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "text.tar.gz").write_text("no archive")
    (folder / "empty.tar.gz").write_bytes(b"")
    yard = standalone()
    for name in ("broken.tar.gz", "text.tar.gz", "empty.tar.gz"):
        response = yard.invoke(name)
        assert_error(response, response.status_code)
        assert response.status_code not in (404, 409, 507), response.text
    assert yard.endpoint.names() == set()
    (own,) = yard.left()
    assert list(own.iterdir()) == []
    assert yard.invoke("echo.tar.gz", b"x").content == b"x"
    (folder / "broken.tar.gz").write_bytes(whole)
    assert yard.invoke("broken.tar.gz", b"x").content == b"x"


def test_an_archive_over_the_limits_is_refused_and_leaves_nothing(
    standalone: StartStandalone, folder: Path
) -> None:
    with tarfile.open(folder / "bomb.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("weights.bin")
        info.size = 64 * LIMIT_BYTES
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    with tarfile.open(folder / "many.tar.gz", "w:gz") as tar:
        for number in range(200):
            tar.addfile(tarfile.TarInfo(f"{number}"))
    yard = standalone(MODELYARD_MAX_EXTRACTED_FILES="100")
    assert "MODELYARD_MAX_EXTRACTED_BYTES" in assert_error(yard.invoke("bomb.tar.gz"), 400)
    assert "MODELYARD_MAX_EXTRACTED_FILES" in assert_error(yard.invoke("many.tar.gz"), 400)
    (own,) = yard.left()
    assert list(own.iterdir()) == []


def test_an_archive_without_a_model_says_what_is_missing_and_leaves_nothing(
    standalone: StartStandalone, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "README").write_text("no model here")
    pack(tmp_path / "nothing", folder / "nothing.tar.gz")
    pack(BEHAVIOURS / "raises_on_load", folder / "raises.tar.gz")
    yard = standalone()
    for name in ("nothing.tar.gz", "raises.tar.gz"):
        for _ in range(2):
            response = yard.invoke(name)
            assert_error(response, response.status_code)
    (own,) = yard.left()
    assert list(own.iterdir()) == []


def test_an_unloaded_archive_is_removed_and_loaded_again_as_it_then_is(
    standalone: StartStandalone, folder: Path, tmp_path: Path, loads: Path
) -> None:
    counting(folder, tmp_path, "counts.tar.gz", loads, KEPT="first")
    yard = standalone()
    assert yard.invoke("counts.tar.gz").json()["kept"] == "first"
    counting(folder, tmp_path, "counts.tar.gz", loads, KEPT="second")
    assert yard.invoke("counts.tar.gz").json()["kept"] == "first"
    assert yard.endpoint.unload("counts.tar.gz").status_code == 200
    (own,) = yard.left()
    assert list(own.iterdir()) == []
    assert yard.invoke("counts.tar.gz").json()["kept"] == "second"
    assert count_in(loads) == 2


def test_unloads_and_requests_that_race_lose_no_files(
    standalone: StartStandalone, threads: ThreadPoolExecutor
) -> None:
    yard = standalone()
    for _ in range(15):
        work = [threads.submit(yard.invoke, "echo.tar.gz", b"x") for _ in range(4)]
        work += [threads.submit(yard.endpoint.unload, "echo.tar.gz")]
        work += [threads.submit(yard.invoke, "echo.tar.gz", b"x") for _ in range(4)]
        assert {each.result().status_code for each in work} <= {200, 404, 503}
        assert yard.invoke("echo.tar.gz", b"x").content == b"x"
        inside.kill(*inside.pids(yard.endpoint, "echo.tar.gz"))
        assert yard.invoke("echo.tar.gz", b"x").content == b"x"  # its files are still there


def test_archives_that_are_first_asked_for_at_once_are_all_removed_at_the_stop(
    standalone: StartStandalone, threads: ThreadPoolExecutor, folder: Path
) -> None:
    names = [f"echo-{number}.tar.gz" for number in range(8)]
    for name in names:
        pack(BEHAVIOURS / "echo", folder / name)
    yard = standalone()
    requests = [threads.submit(yard.invoke, name, b"x") for name in names]
    assert [each.result().content for each in requests] == [b"x"] * 8
    assert len(yard.left()) == 1
    stop_cleanly(yard.own)
    assert yard.left() == []


def test_what_a_killed_server_left_is_removed_by_the_next_but_not_what_another_uses(
    standalone: StartStandalone,
) -> None:
    first, second = standalone(), standalone()
    assert first.invoke("echo.tar.gz", b"x").content == b"x"
    assert second.invoke("echo.tar.gz", b"x").content == b"x"
    assert len(first.left()) == 2
    os.kill(first.own.process.pid, signal.SIGKILL)
    first.own.process.wait()
    assert eventually(lambda: not first.own.processes())
    third = standalone()
    assert third.invoke("echo.tar.gz", b"x").content == b"x"
    assert len(third.left()) == 2
    inside.kill(*inside.pids(second.endpoint, "echo.tar.gz"))
    assert second.invoke("echo.tar.gz", b"x").content == b"x"


def test_a_directory_is_served_by_its_name_where_it_lies(
    standalone: StartStandalone, folder: Path, tmp_path: Path
) -> None:
    make(folder, "echo").rename(folder / "plain")
    yard = standalone()
    assert yard.invoke("plain", b"x").content == b"x"
    assert yard.endpoint.unload("plain").status_code == 200
    assert (folder / "plain" / "code" / "inference.py").exists()
    assert yard.left() == []


@pytest.mark.parametrize("name", ["code", "weights.bin", "modelyard.toml", "none"])
def test_parts_of_a_single_model_are_no_models(
    standalone: StartStandalone, tmp_path: Path, name: str
) -> None:
    model = make(tmp_path, "echo")
    (model / "weights.bin").write_bytes(b"w")
    yard = standalone(MODELYARD_MODEL_DIR=str(model))
    for _ in range(2):
        assert_error(yard.invoke(name, b"x"), 404 if name == "none" else 400)
    assert yard.endpoint.names() == {"model"}
    assert yard.left() == []
    assert yard.invoke(None, b"x").content == b"x"


@pytest.mark.parametrize("name", ["plain/code", "empty", "plain/modelyard.toml"])
def test_beside_archives_only_directories_with_a_model_are_models(
    standalone: StartStandalone, folder: Path, name: str
) -> None:
    make(folder, "echo").rename(folder / "plain")
    (folder / "empty").mkdir()
    yard = standalone()
    assert_error(yard.invoke(name), 400)
    assert yard.endpoint.names() == set()
    assert yard.invoke("plain", b"x").content == b"x"


def test_a_model_in_a_folder_in_a_folder_is_named_by_its_path(
    standalone: StartStandalone, folder: Path
) -> None:
    (folder / "team").mkdir()
    make(folder, "echo").rename(folder / "team" / "plain")
    assert standalone().invoke("team/plain", b"x").content == b"x"


def test_all_archives_may_be_loaded_at_the_start(standalone: StartStandalone, folder: Path) -> None:
    pack(BEHAVIOURS / "adds", folder / "adds.tar.gz")
    (folder / "broken.tar.gz").write_text("no archive")
    yard = standalone(MODELYARD_LOAD_MODELS="all")
    assert eventually(lambda: yard.endpoint.names() == {"echo.tar.gz", "adds.tar.gz"})
    assert eventually(lambda: "cannot load 'broken.tar.gz'" in yard.own.log.read_text())
    assert yard.own.ping_status() == 200


def test_archives_and_directories_may_be_named_to_be_loaded_at_the_start(
    standalone: StartStandalone, folder: Path, tmp_path: Path
) -> None:
    pack(BEHAVIOURS / "adds", folder / "adds.tar.gz")
    directory = make(tmp_path, "echo")
    yard = standalone(MODELYARD_LOAD_MODELS=f"none.tar.gz:echo.tar.gz:mine={directory}")
    assert eventually(lambda: yard.endpoint.names() == {"echo.tar.gz", "mine"})
    assert yard.invoke("mine", b"x").content == b"x"
    assert "cannot load 'none.tar.gz'" in yard.own.log.read_text()


def test_directories_may_be_loaded_at_the_start_in_multi_model_mode(
    serve: Serve, endpoint_of: EndpointOf, tmp_path: Path
) -> None:
    directory = make(tmp_path, "echo")
    own = serve(
        SAGEMAKER_MULTI_MODEL="true",
        MODELYARD_MODEL_ROOTS=str(tmp_path),
        MODELYARD_PRELOAD="python",
        MODELYARD_LOAD_MODELS=f"one={directory}:two={directory}:bad=/etc",
    )
    wait_until_healthy(own)
    endpoint = endpoint_of(own)
    assert eventually(lambda: endpoint.names() == {"one", "two"})
    assert endpoint.invoke("two", b"x").content == b"x"


def test_a_stop_during_an_extraction_leaves_nothing(
    standalone: StartStandalone, threads: ThreadPoolExecutor, folder: Path
) -> None:
    with tarfile.open(folder / "large.tar.gz", "w:gz", compresslevel=1) as tar:
        for number in range(40):
            info = tarfile.TarInfo(f"weights-{number}.bin")
            info.size = 8 << 20
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    yard = standalone(
        MODELYARD_MAX_EXTRACTED_BYTES=str(1 << 30), MODELYARD_DRAIN_TIMEOUT_SECONDS="1"
    )
    request = threads.submit(yard.invoke, "large.tar.gz")
    assert eventually(lambda: bool(yard.left()))
    stop_cleanly(yard.own)
    assert request.exception() is not None or request.result().status_code >= 400
    assert yard.left() == []
