"""The life of a model: only the arrows that are drawn."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from handlers.types import Interface, ModelPlan
from model_server.model import IllegalTransition, Model, State

# Drawn once more, from the diagram in the docstring of ``Model``.
LEADS_TO = {
    "LOADING": "READY UNLOADING GONE",
    "READY": "RESTARTING UNLOADING",
    "RESTARTING": "READY FAILED UNLOADING",
    "FAILED": "RESTARTING UNLOADING",
    "UNLOADING": "GONE",
    "GONE": "",
}


def model() -> Model:
    return Model("m", "/m", ModelPlan("/m", "python", Interface.DEFAULT), "/run/m.sock")


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
        under_way = self.state in (State.LOADING, State.RESTARTING, State.UNLOADING)
        assert self.model.settled.is_set() != under_way

    @invariant()
    def it_is_leaving_once_an_unload_has_begun(self) -> None:
        assert self.model.is_leaving == (self.state in (State.UNLOADING, State.GONE))


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


def test_a_model_describes_itself_in_the_words_of_the_contract() -> None:
    info = model().info()
    assert (info.model_name, info.model_url, info.state) == ("m", "/m", "LOADING")
    assert (info.workers, info.private_bytes, info.restarts) == ([], 0, 0)
