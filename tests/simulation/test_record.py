"""The record in memory stands for the one in PostgreSQL: the same functions, and locks as the pipeline leans on them."""

from __future__ import annotations

import contextlib
import inspect
from types import FunctionType

import psycopg
import pytest

from domain.errors import StoreAway

from .installing import doubled_functions
from .loop import Loop, Process
from .record.unit import LOCK_TIMEOUT_S, Record, Store


@pytest.mark.parametrize(("original", "double"), list(doubled_functions()), ids=lambda function: function.__qualname__)
def test_a_double_is_called_as_the_original_is(original: FunctionType, double: FunctionType) -> None:
    ours, theirs = inspect.signature(double), inspect.signature(original)

    assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
        (p.name, p.kind, p.default) for p in theirs.parameters.values()
    ]


class Scene:
    """A record, and threads that use it, each after the time given."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.record = Record(self.loop, lambda where: None, lambda: None)  # type: ignore[arg-type,return-value]
        self.store = Store(self.record)
        self.process = Process("one")
        self.told: list[str] = []

    def play(self, *acts: object) -> list[str]:
        for number, act in enumerate(acts):
            self.loop.spawn(self.process, act, 0.1 * number)  # type: ignore[arg-type]
        self.loop.run()
        return self.told


def test_a_locked_row_is_waited_for_and_read_as_it_has_become() -> None:
    scene = Scene()

    def first() -> None:
        with scene.store.unit() as unit:
            unit.lock("accounts", "a")
            unit.put("accounts", "a", 1)
            scene.loop.sleep(1)

    def second() -> None:
        with scene.store.unit() as unit:
            scene.told.append(f"sees {unit.get('accounts', 'a')}")
            unit.lock("accounts", "a")
            scene.told.append(f"then {unit.get('accounts', 'a')}")

    assert scene.play(first, second) == ["sees None", "then 1"]


def test_a_lock_is_not_waited_for_for_ever() -> None:
    scene = Scene()

    def first() -> None:
        with scene.store.unit() as unit:
            unit.lock("accounts", "a")
            scene.loop.sleep(2 * LOCK_TIMEOUT_S)

    def second() -> None:
        with scene.store.unit() as unit:
            try:
                unit.lock("accounts", "a")
            except psycopg.errors.LockNotAvailable:
                scene.told.append(f"{scene.loop.now:.1f}")

    assert scene.play(first, second) == ["3.1"]


def test_a_circle_of_waits_is_broken() -> None:
    scene = Scene()

    def act(one: str, other: str) -> object:
        def lock_both() -> None:
            try:
                with scene.store.unit() as unit:
                    unit.lock("accounts", one)
                    scene.loop.sleep(1)
                    unit.lock("accounts", other)
                scene.told.append(f"{one} has both")
            except psycopg.errors.DeadlockDetected:
                scene.told.append(f"{one} gives up")

        return lock_both

    assert scene.play(act("a", "b"), act("b", "a")) == ["b gives up", "a has both"]


def test_a_unit_that_fails_leaves_nothing() -> None:
    scene = Scene()

    def act() -> None:
        with contextlib.suppress(ValueError), scene.store.unit() as unit:
            unit.insert("orders", "1", {})
            raise ValueError

    scene.play(act)

    assert (scene.record.tables["orders"], scene.record.holders) == ({}, {})


@pytest.mark.parametrize(("fate", "rows"), [("lost answer", {"1": "row"}), ("lost", {})])
def test_a_commit_whose_answer_is_lost_may_have_happened(fate: str, rows: dict[str, str]) -> None:
    scene = Scene()
    scene.record.fate = lambda: fate

    def act() -> None:
        with pytest.raises(StoreAway), scene.store.unit() as unit:
            unit.insert("orders", "1", "row")

    scene.play(act)

    assert scene.record.tables["orders"] == rows


def test_one_key_is_inserted_once() -> None:
    scene = Scene()

    def act() -> None:
        with scene.store.unit() as unit:
            is_new = unit.insert("intents", "key", "row")
            scene.loop.sleep(1)
        scene.told.append(f"{is_new} at {scene.loop.now:.1f}")

    assert scene.play(act, act) == ["True at 1.0", "False at 2.0"]


def test_the_dead_write_nothing() -> None:
    scene = Scene()

    def act() -> None:
        with scene.store.unit() as unit:
            unit.insert("orders", "1", "row")
            scene.loop.sleep(1)

    scene.loop.at(0.5, lambda: scene.loop.kill(scene.process))
    scene.loop.at(0.5, lambda: scene.record.cut(scene.process))
    scene.play(act)

    assert (scene.record.tables["orders"], scene.record.holders) == ({}, {})
