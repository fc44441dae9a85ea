"""The life of a model: only the arrows that are drawn."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from handlers.types import Interface, ModelPlan, ModelSettings
from model_server.memory.ledger import RAM
from model_server.model import AWAY, IllegalTransition, Model, State

# Drawn once more, from the diagram in the docstring of ``Model``.
LEADS_TO = {
    "LOADING": "READY EVICTED FAILED UNLOADING GONE",
    "READY": "RESTARTING EVICTING UNLOADING",
    "RESTARTING": "READY FAILED UNLOADING",
    "FAILED": "LOADING UNLOADING",
    "EVICTING": "EVICTED PARKED UNLOADING",
    "EVICTED": "LOADING UNLOADING",
    "PARKED": "LOADING EVICTING UNLOADING",
    "UNLOADING": "GONE",
    "GONE": "",
}
UNDER_WAY = {"LOADING", "RESTARTING", "EVICTING", "UNLOADING"}


def model(*, pinned: bool = False) -> Model:
    plan = ModelPlan("/m", "python", Interface.DEFAULT, settings=ModelSettings(pinned=pinned))
    return Model("m", "/m", plan, "/run/m.sock")


class ModelLife(RuleBasedStateMachine):
    """Any moves at all, allowed or not."""

    def __init__(self) -> None:
        super().__init__()
        self.model = model()
        self.state = State.LOADING

    @rule(to=st.sampled_from(State))
    def move(self, to: State) -> None:
        if to.name in LEADS_TO[self.state.name].split():
            self.model.move(to)
            self.state = to
            return
        try:
            self.model.move(to)
        except IllegalTransition as error:
            assert self.state.name in str(error) and to.name in str(error)
        else:
            raise AssertionError(f"{self.state} -> {to} is not drawn")

    @precondition(lambda self: self.state is State.GONE)
    @rule()
    def load_anew(self) -> None:
        self.__init__()  # type: ignore[misc]

    @invariant()
    def it_is_where_it_was_moved(self) -> None:
        assert self.model.state is self.state

    @invariant()
    def it_is_settled_while_nothing_is_under_way(self) -> None:
        assert self.model.settled.is_set() != (self.state.name in UNDER_WAY)

    @invariant()
    def it_is_leaving_once_an_unload_has_begun(self) -> None:
        assert self.model.is_leaving == (self.state in (State.UNLOADING, State.GONE))

    @invariant()
    def only_a_model_in_memory_that_does_nothing_is_not_busy(self) -> None:
        assert self.model.is_busy() == (self.state not in (State.READY, State.PARKED))


TestModelLife = ModelLife.TestCase
TestModelLife.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)


def test_every_life_can_end() -> None:
    for state in State:
        reached, seen = {state.name}, set[str]()
        while reached - seen:
            name = (reached - seen).pop()
            seen.add(name)
            reached |= set(LEADS_TO[name].split())
        assert "GONE" in reached


def test_what_is_away_can_be_brought_back_and_unloaded() -> None:
    for state in AWAY:
        assert {"LOADING", "UNLOADING"} <= set(LEADS_TO[state.name].split())


def test_a_model_describes_itself_in_the_words_of_the_contract() -> None:
    info = model().info()
    assert (info.model_name, info.model_url, info.state) == ("m", "/m", "LOADING")
    assert (info.workers, info.private_bytes, info.restarts) == ([], 0, 0)


def test_what_a_model_held_last_is_remembered_when_it_holds_nothing_any_more() -> None:
    made = model()
    made.hold({RAM: 7, "gpu0": 3})
    assert (made.held_bytes, made.last_held) == (7, {})
    made.hold({})
    made.hold({})  # to hold nothing once more says nothing new
    assert (made.held_bytes, made.resident.held) == (0, {})
    assert made.last_held == {RAM: 7, "gpu0": 3}


def test_a_pinned_model_is_known_as_such_and_one_in_hand_is_busy() -> None:
    made = model(pinned=True)
    assert made.resident.pinned and not model().resident.pinned
    made.move(State.READY)
    assert not made.resident.busy()
    made.in_hand = True
    assert made.resident.busy()
