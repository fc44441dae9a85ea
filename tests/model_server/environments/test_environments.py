"""Environments of models: what is in them, how failures are told, who shares them, what goes."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from handlers.types import Requirements
from model_server.environments.environment_build import OWN_DISTRIBUTIONS, OWN_MODULES
from model_server.environments.environment_store import EnvironmentStore
from model_server.environments.environments import SERVER_ENVIRONMENT, Environment
from model_server.errors import EnvironmentFailed, ModelTimeout, ServerUnavailable

from ...contract.polling import eventually
from ...contract.processes import is_running
from ..environment_parts import asking, environments, prepared, run, says, watched
from ..packages import make_source, make_wheel
from ..yard_parts import until

# For a build that says that it has begun, and waits until it may go on.
WAIT = """
Path({started!r}).write_text(str(os.getpid()))
while not Path({go!r}).exists():
    time.sleep(0.01)
"""

BUILDER = """
import sys
from pathlib import Path
from handlers.types import Requirements
from tests.model_server.environment_parts import prepared

prepared(Path(sys.argv[1]), Requirements(file=sys.argv[2]))
"""


def value_of(environment: Environment, module: str) -> str:
    return says(environment, f"import {module}; print({module}.VERSION)")


def waiting(directory: Path, tmp_path: Path) -> tuple[Requirements, Path, Path]:
    """Requirements of a package whose build waits; the file it writes, the one it waits for."""
    started, go = tmp_path / "started", tmp_path / "go"
    make_source(directory / "slow", "slow", before=WAIT.format(started=str(started), go=str(go)))
    return asking(directory, "./slow\n"), started, go


# --- what is in an environment ----------------------------------------------------------------


def test_two_versions_of_a_package_run_side_by_side(tmp_path: Path) -> None:
    for number in ("1.0", "2.0"):
        make_wheel(tmp_path / "wheels", "tiny", number)
    environments = prepared(
        tmp_path / "envs",
        asking(tmp_path / "a", "tiny==1.0\n", tmp_path / "wheels"),
        asking(tmp_path / "b", "tiny==2.0\n", tmp_path / "wheels"),
    )
    code = "import tiny; print(tiny.VERSION, flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    running = [subprocess.Popen([one.python, "-c", code], **pipes) for one in environments]  # type: ignore[call-overload]
    try:
        assert [process.stdout.readline() for process in running] == [b"1.0\n", b"2.0\n"]
        assert [process.poll() for process in running] == [None, None]
    finally:
        for process in running:
            process.communicate(b"\n")


def test_a_newer_version_shadows_the_servers_which_stays_as_it_is(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "iniconfig", "999.0")
    (made,) = prepared(tmp_path / "envs", asking(tmp_path, "iniconfig>=999\n", tmp_path / "wheels"))
    code = "import importlib.metadata as m; print(m.version('iniconfig'))"
    assert value_of(made, "iniconfig") == says(made, code) == "999.0"
    assert says(SERVER_ENVIRONMENT, code) == version("iniconfig") != "999.0"


def test_what_the_server_has_is_there_and_not_installed_again(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "tiny", requires=["numpy", "torch>=2"])
    (made,) = prepared(tmp_path / "envs", asking(tmp_path, "tiny\nmsgspec\n", tmp_path / "wheels"))
    packages = json.loads((tmp_path / "envs" / made.key / "complete.json").read_text())["packages"]
    assert packages == ["tiny 1.0"]
    modules = "numpy, msgspec, model_server.processes.zygote, sys"
    code = f"import {modules}; print(numpy.__file__, sys.prefix)"
    numpy, prefix = says(made, code).split()
    assert numpy == says(SERVER_ENVIRONMENT, "import numpy; print(numpy.__file__)")
    assert prefix == str(tmp_path / "envs" / made.key)


def test_a_model_that_asks_for_what_the_server_has_uses_the_servers_own(tmp_path: Path) -> None:
    asked = asking(tmp_path, f"numpy\nmsgspec=={version('msgspec')}\nmodelyard\n")
    assert prepared(tmp_path / "envs", asked, asked) == [SERVER_ENVIRONMENT] * 2


def test_the_key_is_known_before_and_after(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "tiny")
    own = asking(tmp_path / "a", "tiny\n", tmp_path / "wheels")
    same = asking(tmp_path / "b", "msgspec\n")

    async def work() -> None:
        async with environments(tmp_path / "envs") as made:
            key = made.key(own)
            assert (await made.prepare(own)).key == key == made.key(own)
            assert made.key(same) != ""  # who knows before pip has said so
            assert (await made.prepare(same)).key == "" == made.key(same)

    run(work())


def test_what_a_models_process_imports_of_the_server_is_pinned() -> None:
    code = (
        "import sys, model_server.processes.zygote, model_server.environments.pip_process; print(*{"
        "name.partition('.')[0] for name, module in sys.modules.items()"
        " if 'site-packages' in (getattr(module, '__file__', None) or '')})"
    )
    imported = set(says(SERVER_ENVIRONMENT, code).split())
    optional = {"typing_extensions", "_distutils_hack"}  # of msgspec, and of setuptools
    found = {name for name in imported - optional if not name.startswith("__editable__")}
    assert found - set(OWN_MODULES) == set(OWN_DISTRIBUTIONS) - {"modelyard"}


@pytest.mark.parametrize("text", ["", "\n# tiny==1.0\n  \n", "--no-index\n", "-r more.txt\n"])
def test_an_empty_file_needs_no_environment(tmp_path: Path, text: str) -> None:
    asked = asking(tmp_path, text)
    (tmp_path / "more.txt").write_text("# nothing here either\n")
    assert prepared(tmp_path / "envs", asked) == [SERVER_ENVIRONMENT]
    assert not (tmp_path / "envs").exists()


def test_requirements_files_are_read_as_pip_reads_them(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "tiny", "1.0")
    make_wheel(tmp_path / "wheels", "tiny", "2.0")
    make_wheel(tmp_path / "wheels", "nested")
    make_source(tmp_path / "model" / "own", "local")
    text = (
        "# what we need\n\n./own  # beside this file\n-r more/nested.txt\n-c pins.txt\ntiny \\\n"
        "  >=1.0\nabsent==1.0 ; python_version < '3'\n"
    )
    asked = asking(tmp_path / "model", text, tmp_path / "wheels")
    (tmp_path / "model" / "more").mkdir()
    (tmp_path / "model" / "more" / "nested.txt").write_text("nested\r\n")
    (tmp_path / "model" / "pins.txt").write_text("tiny<2\n")
    (made,) = prepared(tmp_path / "envs", asked)
    assert [value_of(made, name) for name in ("tiny", "nested", "local")] == ["1.0"] * 3


def test_a_package_is_built_with_the_tools_that_it_asks_for_not_with_the_servers(
    tmp_path: Path,
) -> None:
    make_wheel(tmp_path / "wheels", "iniconfig", "0.5")  # the server has a newer one
    before = f"import iniconfig; Path({str(tmp_path / 'tool')!r}).write_text(iniconfig.VERSION)"
    source = make_source(tmp_path / "model" / "own", "local", before=before)
    project = source / "pyproject.toml"
    project.write_text(project.read_text().replace("[]", '["iniconfig==0.5"]'))
    (made,) = prepared(
        tmp_path / "envs", asking(tmp_path / "model", "./own\n", tmp_path / "wheels")
    )
    assert (tmp_path / "tool").read_text() == "0.5"
    assert says(made, "from importlib.metadata import version as v; print(v('iniconfig'))") != "0.5"


def test_pins_of_a_framework_need_no_file(tmp_path: Path) -> None:
    make_wheel(tmp_path, "tiny", "1.0")
    (made,) = prepared(
        tmp_path / "envs",
        Requirements(pins=("tiny==1.0",)),
        variables={"PIP_FIND_LINKS": str(tmp_path)},
    )
    assert value_of(made, "tiny") == "1.0"


def test_pips_own_variables_reach_it_but_none_that_lead_it_astray(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "tiny")
    (tmp_path / "astray").mkdir()
    (tmp_path / "astray" / "pip.py").write_text("raise SystemExit('not this one')")
    variables = {
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        "PIP_TARGET": str(tmp_path / "elsewhere"),
        "PYTHONPATH": str(tmp_path / "astray"),
        "PYTHONSTARTUP": "/nowhere",
    }
    (made,) = prepared(tmp_path / "envs", asking(tmp_path, "tiny\n"), variables=variables)
    assert value_of(made, "tiny") == "1.0"
    assert not (tmp_path / "elsewhere").exists()


# --- what fails ---------------------------------------------------------------------------------


def failure(tmp_path: Path, asked: Requirements, **settings: object) -> EnvironmentFailed:
    """How the build fails; nothing may be left of it."""
    with pytest.raises(EnvironmentFailed) as raised:
        prepared(tmp_path / "envs", asked, **settings)
    assert list((tmp_path / "envs").glob("*")) == []
    assert raised.value.status == 500
    assert len(raised.value.message.encode()) < 2600
    return raised.value


def test_requirements_that_cannot_be_met_fail_with_pips_last_words(tmp_path: Path) -> None:
    error = failure(tmp_path, asking(tmp_path, "no-such-package-of-anybody==3.1\n"))
    assert "cannot be installed" in error.message
    assert "no-such-package-of-anybody==3.1" in error.message


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    error = failure(tmp_path, asking(tmp_path, "-r absent.txt\n"))
    assert "absent.txt" in error.message


def test_a_line_that_is_none_is_shown(tmp_path: Path) -> None:
    error = failure(tmp_path, asking(tmp_path, "numpy => 1.0\n"))
    assert "numpy => 1.0" in error.message


@pytest.mark.parametrize("indirect", [False, True], ids=["asked for", "needed by another"])
def test_another_version_of_the_servers_own_package_is_refused(
    tmp_path: Path, indirect: bool
) -> None:
    make_wheel(tmp_path / "wheels", "msgspec", "0.1")
    make_wheel(tmp_path / "wheels", "tiny", requires=["msgspec==0.1"])
    text = "tiny\n" if indirect else "msgspec==0.1\n"
    error = failure(tmp_path, asking(tmp_path, text, tmp_path / "wheels"))
    assert "msgspec is one of the server's own packages" in error.message
    assert version("msgspec") in error.message


def test_another_version_of_the_servers_own_package_is_refused_as_a_file(tmp_path: Path) -> None:
    make_wheel(tmp_path, "msgspec", "0.1")
    error = failure(tmp_path, asking(tmp_path, "./msgspec-0.1-py3-none-any.whl\n"))
    assert "msgspec is one of the server's own packages" in error.message


def test_a_module_named_like_the_servers_own_is_refused(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "tiny", module="handlers")
    error = failure(tmp_path, asking(tmp_path, "tiny\n", tmp_path / "wheels"))
    assert "module named 'handlers'" in error.message


def test_a_build_that_fails_shows_its_error_and_the_next_try_is_a_new_one(tmp_path: Path) -> None:
    before = f"if not Path({str(tmp_path / 'go')!r}).exists(): raise OSError('no compiler ' * 999)"
    make_source(tmp_path / "model" / "own", "local", before=before)
    asked = asking(tmp_path / "model", "./own\n")
    assert "no compiler" in failure(tmp_path, asked).message
    (tmp_path / "go").touch()
    (made,) = prepared(tmp_path / "envs", asked)
    assert value_of(made, "local") == "1.0"


def test_a_build_over_the_time_limit_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    asked, started, _ = waiting(tmp_path / "model", tmp_path)
    with pytest.raises(ModelTimeout, match="more than 6 seconds"):
        prepared(tmp_path / "envs", asked, environment_timeout_seconds=6.0)
    assert not is_running(int(started.read_text()))
    assert list((tmp_path / "envs").glob("*")) == []


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailed, match="MODELYARD_ENVIRONMENTS_DIR"):
        prepared(tmp_path / "file" / "envs", asking(tmp_path, "tiny\n"))


# --- who shares -------------------------------------------------------------------------------


def test_whoever_asks_for_the_same_gets_the_same_built_once(tmp_path: Path) -> None:
    builds = tmp_path / "builds"
    before = f"with open({str(builds)!r}, 'a') as file: file.write('x')"
    asked = []
    for name in ("a", "b", "c"):
        make_source(tmp_path / name / "own", "local", before=before)
        asked.append(asking(tmp_path / name, "./own\n"))
    first, second, third = prepared(tmp_path / "envs", *asked)
    assert first == second == third
    assert prepared(tmp_path / "envs", asked[1]) == [first]  # by a server that comes later
    assert builds.read_text() == "x"


def test_two_servers_that_share_the_directory_build_once(tmp_path: Path) -> None:
    asked, started, go = waiting(tmp_path / "model", tmp_path)

    async def work() -> None:
        children = watched()
        async with (
            environments(tmp_path / "envs", children=children) as one,
            environments(tmp_path / "envs", children=children) as other,
        ):
            first = asyncio.create_task(one.prepare(asked))
            await until(started.exists)
            second = asyncio.create_task(other.prepare(asked))
            await until(lambda: bool(other._builds))
            pid = started.read_text()
            go.touch()
            assert await first == await second
            assert started.read_text() == pid

    run(work())


def test_a_build_goes_on_when_all_who_waited_have_left(tmp_path: Path) -> None:
    asked, started, go = waiting(tmp_path / "model", tmp_path)

    async def work() -> None:
        async with environments(tmp_path / "envs") as made:
            callers = [asyncio.create_task(made.prepare(asked)) for _ in range(2)]
            await until(started.exists)
            pid = started.read_text()
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
            go.touch()
            assert (await made.prepare(asked)).key
            assert started.read_text() == pid

    run(work())


def test_two_are_built_at_once_and_not_three(tmp_path: Path) -> None:
    asked = []
    for name in ("a", "b", "c"):
        where = tmp_path / name
        one, _, _ = waiting(where, where)
        asked.append(one)

    async def work() -> None:
        async with environments(tmp_path / "envs") as made:
            tasks = [asyncio.create_task(made.prepare(one)) for one in asked]
            await until(lambda: len(list(tmp_path.glob("?/started"))) == 2)
            assert sum(place.is_dir() for place in (tmp_path / "envs").iterdir()) == 2
            for name in ("a", "b", "c"):
                (tmp_path / name / "go").touch()
            assert len({one.key for one in await asyncio.gather(*tasks)}) == 3

    run(work())


def test_waiting_for_another_server_keeps_nobody_from_building(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    for name in names:
        make_wheel(tmp_path / "wheels", name)
    *others, own = [asking(tmp_path / name, f"{name}\n", tmp_path / "wheels") for name in names]
    store = EnvironmentStore(str(tmp_path / "envs"))
    store.make()

    async def work() -> None:
        async with environments(tmp_path / "envs") as made:
            fds = [store.lock(made.key(one), fcntl.LOCK_EX) for one in others]
            waiting = [asyncio.create_task(made.prepare(one)) for one in others]
            await until(lambda: len(made._builds) == 2)
            assert (await made.prepare(own)).key
            assert not any(task.done() for task in waiting)
            for fd in fds:
                assert fd is not None
                os.close(fd)
            assert len({one.key for one in await asyncio.gather(*waiting)}) == 2

    run(work())


def test_a_server_that_stops_ends_its_builds(tmp_path: Path) -> None:
    asked, started, _ = waiting(tmp_path / "model", tmp_path)

    async def work() -> None:
        async with environments(tmp_path / "envs") as made:
            task = asyncio.create_task(made.prepare(asked))
            await until(started.exists)
            await made.close()
            with pytest.raises(ServerUnavailable, match="stopping"):
                await task

    run(work())
    assert not is_running(int(started.read_text()))
    assert list((tmp_path / "envs").glob("*")) == []


def test_what_a_killed_server_was_building_ends_and_is_built_anew(tmp_path: Path) -> None:
    asked, started, go = waiting(tmp_path / "model", tmp_path)
    command = [sys.executable, "-c", BUILDER, str(tmp_path / "envs"), str(asked.file)]
    server = subprocess.Popen(command, cwd=Path(__file__).parents[3])
    assert eventually(started.exists)
    server.send_signal(signal.SIGKILL)
    server.wait()
    builder = int(started.read_text())
    assert eventually(lambda: not is_running(builder))
    (remains,) = (place for place in (tmp_path / "envs").iterdir() if place.is_dir())
    assert not (remains / "complete.json").exists()
    go.touch()
    (made,) = prepared(tmp_path / "envs", asked)
    assert made.key == remains.name
    assert value_of(made, "slow") == "1.0"


# --- what goes ----------------------------------------------------------------------------------


def test_the_longest_unused_go_first_and_none_that_is_in_use(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    for name in names:
        make_wheel(tmp_path / "wheels", name)
    asked = [asking(tmp_path / name, f"{name}\n", tmp_path / "wheels") for name in names]
    made = prepared(tmp_path / "envs", *asked)
    for age, one in enumerate(reversed(made)):
        os.utime(tmp_path / "envs" / one.key / "complete.json", (age, age))
    oldest, middle, newest = (one.key for one in reversed(made))
    sizes = json.loads((tmp_path / "envs" / newest / "complete.json").read_text())["bytes"]

    async def work() -> None:
        async with environments(tmp_path / "envs", environments_max_bytes=2 * sizes) as one:
            assert await one.collect({oldest}) == [middle]
            assert await one.collect(set()) == []
        async with environments(tmp_path / "envs", environments_max_bytes=0) as one:
            assert await one.collect(set()) == [oldest, newest]

    run(work())
    assert list((tmp_path / "envs").glob("*")) == []


def test_what_was_just_handed_out_or_another_server_uses_is_kept(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "tiny")
    asked = asking(tmp_path, "tiny\n", tmp_path / "wheels")

    async def work() -> None:
        children = watched()
        async with environments(
            tmp_path / "envs", children=children, environments_max_bytes=0
        ) as other:
            async with environments(
                tmp_path / "envs", children=children, environments_max_bytes=0
            ) as one:
                made = await one.prepare(asked)
                assert await one.collect(set()) == []
                assert await other.collect(set()) == []
            assert await other.collect(set()) == [made.key]  # when that server is gone

    run(work())


def test_what_crashed_builds_left_goes(tmp_path: Path) -> None:
    envs = tmp_path / "envs"
    (envs / ("a" * 32) / "bin").mkdir(parents=True)
    (envs / f"{'b' * 32}.lock").touch()
    (envs / "notes.txt").touch()

    async def work() -> None:
        async with environments(envs) as made:
            await made.collect(set())

    run(work())
    assert [place.name for place in envs.iterdir()] == ["notes.txt"]


def test_an_environment_removed_by_hand_is_built_again(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "tiny")
    asked = asking(tmp_path, "tiny\n", tmp_path / "wheels")

    async def work() -> list[Environment]:
        async with environments(tmp_path / "envs") as made:
            first = await made.prepare(asked)
            (tmp_path / "envs" / first.key / "complete.json").unlink()
            return [first, await made.prepare(asked)]

    first, second = run(work())
    assert first == second
    assert value_of(second, "tiny") == "1.0"
