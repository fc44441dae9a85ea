"""An instance under everything at once: whatever comes, an answer is right or a documented error.

What happens is drawn at random; the seed is the test's parameter.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from endpoint.errors import InternalDependency, ModelError, ModelNotReady, ValidationError
from endpoint.instances import memory
from endpoint.instances.container_client import ContainerError
from tests.endpoint.instances.parts import Up, on_instance

NAMES = [f"m{number}" for number in range(12)]
SECONDS = 2.0  # of each life of the container
LIVES = 3
USERS = 24
PAUSE = 0.03

# What a client may be told while its model's object goes, its container is full, and the like.
DOCUMENTED = (ModelError, ModelNotReady, ValidationError, InternalDependency)


class Chaos:
    """Users, and what befalls the instance that they use; goes on with the next one."""

    def __init__(self, seed: int) -> None:
        self.one: Up
        self.dice = random.Random(seed)
        self.may_say: dict[str, set[str]] = {name: set() for name in NAMES}
        self.told: Counter[str] = Counter()
        self.answers = 0
        self.going = True

    # --- what happens ---------------------------------------------------------------------------

    def upload(self) -> None:
        self.upload_of(self.dice.choice(NAMES))

    def upload_of(self, name: str) -> str:
        says = f"{name} {len(self.may_say[name])}"
        self.may_say[name].add(says)
        self.one.put(name, says, padding=self.dice.randrange(50_000))
        return says

    def upload_garbage(self) -> None:
        self.one.put_bytes(self.dice.choice(NAMES), b"no archive")

    def delete(self) -> None:
        with suppress(FileNotFoundError):
            self.one.delete(self.dice.choice(NAMES))

    def lack_memory(self) -> None:
        self.one.stub.rule(self.dice.choice(["load", "invoke"]), "answer", status=507, times=2)

    def fail(self) -> None:
        self.one.stub.rule(self.dice.choice(["load", "unload"]), "answer", status=500, times=1)

    def break_off(self) -> None:
        on = self.dice.choice(["load", "unload", "invoke"])
        self.one.stub.rule(on, self.dice.choice(["garbage", "cut", "break", "close"]), times=1)

    def forget(self) -> None:
        self.one.stub.rule("invoke", "forget", times=1)

    def move_copies(self) -> None:
        self.one.models.withdraw(self.dice.choice(NAMES), "in a test")
        self.one.models.warm(self.dice.choice(NAMES))

    def step(self) -> None:
        happenings: list[Callable[[], None]] = [
            *(self.upload, self.upload, self.upload_garbage, self.delete, self.lack_memory),
            *(self.fail, self.break_off, self.forget, self.move_copies),
        ]
        self.dice.choice(happenings)()

    # --- who is there ---------------------------------------------------------------------------

    async def user(self) -> None:
        while self.going:
            name = self.dice.choice(NAMES)
            try:
                says = await self.one.says(name, seconds=self.dice.choice([0.1, 10.0]))
            except (*DOCUMENTED, ContainerError) as error:
                self.told[type(error).__name__] += 1
                await asyncio.sleep(0.001)
            else:
                assert says in self.may_say[name]
                self.answers += 1

    async def life(self, one: Up, *, last: bool) -> None:
        self.one, self.going = one, True
        for name in NAMES:
            self.upload_of(name)
        users = [asyncio.create_task(self.user()) for _ in range(USERS)]
        loop = asyncio.get_running_loop()
        end = loop.time() + SECONDS
        while loop.time() < end and not any(user.done() for user in users):
            self.step()
            await asyncio.sleep(PAUSE)
        if not last:
            await asyncio.to_thread(one.stub.exit, 9)
            await one.ended
            await one.instance.stop(at_once=True)
        self.going = False
        await asyncio.gather(*users)

    async def recovers(self, one: Up) -> None:
        """When all is well again, every model answers, and what is counted is what is there."""
        one.stub.release()
        for name in NAMES:
            says = self.upload_of(name)
            async with asyncio.timeout(60):
                while True:
                    with suppress(*DOCUMENTED):
                        if await one.says(name) == says:
                            break
                    await asyncio.sleep(0.05)
        listed = one.count("list")
        await one.saw("list", listed + 4)
        known = {each.stored.id for each in one.models.residents() if each.stored is not None}
        await one.until(lambda: set(one.stub.loaded()) <= known)
        disk = one.models.summary(disk=False)["disk"]
        assert disk["used"] == sum(
            stored["bytes"] for stored in one.models.summary(disk=True)["models"]
        )
        assert disk["used"] <= disk["budget"]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("seed", [1, 2])
def test_everything_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, keep: bool
) -> None:
    monkeypatch.setattr(memory, "_PATIENCE_SECONDS", 0.05)
    chaos = Chaos(seed)
    for life in range(LIVES):
        last = life == LIVES - 1

        async def test(one: Up, last: bool = last) -> None:
            await chaos.life(one, last=last)
            if last:
                await chaos.recovers(one)

        on_instance(
            test,
            tmp_path,
            stub={"room": 4},
            keep=keep,
            disk_bytes=400_000,
            object_check_seconds=0.05,
            failed_load_seconds=0.2,
            probe_interval_seconds=0.1,
            load_timeout_seconds=5.0,
        )
    assert chaos.answers > 20, chaos.told  # thousands, on a machine that has nothing else to do
