"""`trader switch` and `coordinator switch`: what they ask for, and that a turned switch is told whatever follows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from domain.errors import StoreAway
from ops.client import Client
from ops.screen import Screen
from pipeline import aftermath, switches

NOTHING: dict[str, list[dict[str, Any]]] = {"unsent": [], "open": [], "flatten": []}


def a_switch(asked: switches.Turn, **changes: Any) -> dict[str, Any]:
    told = {"scope": "ALL", "subject": "all", "mode": asked.mode, "version": 1, "reason": asked.reason, "by": "asha"}
    told |= {"byOperator": True, "at": "2026-11-26T04:00:00Z", "cancelOpen": asked.cancel_open, "flatten": asked.flatten}
    return {**told, "followed": NOTHING, "carriedOutAt": None, **changes}


class Desk:
    """Stands for the desk: what was asked of its switch, and what happens when that is carried out."""

    def __init__(self) -> None:
        self.asked: list[switches.Turn] = []
        self.trouble: Exception | None = None
        self.told_before: str | None = None


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    desk = Desk()

    @contextmanager
    def here(options: Any) -> Iterator[tuple[Screen, Desk]]:
        yield Screen(json=options.json), desk

    def turn(desk: Desk, scope: str, subject: str, asked: switches.Turn, by: Any) -> dict[str, Any]:
        desk.asked.append(asked)
        return a_switch(asked)

    def carry_out(desk: Desk) -> int:
        desk.told_before = capsys.readouterr().out
        print(desk.told_before, end="")
        if desk.trouble is not None:
            raise desk.trouble
        return 0

    followed = {**NOTHING, "unsent": [{"intentId": "i", "matched": 3}]}
    monkeypatch.setattr("ops.switches.coordinator.desk_here", here)
    monkeypatch.setattr(switches, "turn", turn)
    monkeypatch.setattr(aftermath, "carry_out", carry_out)
    monkeypatch.setattr(
        switches, "show", lambda desk, by: [a_switch(desk.asked[-1], followed=followed, carriedOutAt="2026-11-26T04:00:01Z")]
    )
    return desk


HALT = ("switch", "halt", "all", "--reason", "prices are wrong")


def test_a_halt_is_told_before_what_follows_is_begun(desk: Desk, run_coordinator: Any) -> None:
    ran = run_coordinator(*HALT, "--cancel-open", "--flatten")

    assert desk.asked == [switches.Turn(mode=switches.Mode.HALTED, reason="prices are wrong", cancel_open=True, flatten=True)]
    assert "everything is HALTED" in (desk.told_before or "")
    assert (ran.code, "ended unsent: 3" in ran.err) == (0, True)


def test_a_halt_whose_aftermath_can_not_be_begun_is_no_failure(desk: Desk, run_coordinator: Any) -> None:
    desk.trouble = StoreAway("the database is busy")

    ran = run_coordinator(*HALT)

    assert ran.code == 0
    assert "everything is HALTED" in ran.out
    assert "the clock does what follows: the database is busy" in ran.err
    document = run_coordinator(*HALT, "--json").document
    assert (document["mode"], document["carriedOutAt"]) == ("HALTED", None)


def test_a_document_has_what_followed(desk: Desk, run_coordinator: Any) -> None:
    document = run_coordinator("switch", "reduce", "all", "--reason", "enough", "--json").document

    assert (document["mode"], document["followed"]["unsent"]) == ("REDUCING", [{"intentId": "i", "matched": 3}])


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("halt", "--cancel-open"), {"mode": "HALTED", "cancelOpen": True, "flatten": False}),
        (("reduce", "user", "--flatten"), {"mode": "REDUCING", "cancelOpen": False, "flatten": True}),
        (("resume", "user"), {"mode": "ACTIVE", "cancelOpen": False, "flatten": False}),
    ],
)
def test_a_trader_asks_with_the_same_words(
    monkeypatch: pytest.MonkeyPatch, run_trader: Any, words: tuple[str, ...], asked: dict[str, Any]
) -> None:
    sent: list[dict[str, Any]] = []

    def turn_switch(self: Client, scope: str, subject: str, request: dict[str, Any], key: str) -> dict[str, Any]:
        sent.append(request)
        return a_switch(switches.Turn(mode=switches.Mode(request["mode"]), reason="enough"))

    monkeypatch.setenv("TRADER_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TRADER_KEY", "key")
    monkeypatch.setattr(Client, "turn_switch", turn_switch)

    assert run_trader("switch", *words, "--reason", "enough").code == 0
    assert sent == [{"reason": "enough", **asked}]
    assert run_trader("switch", words[0]).code == 2, "a reason is wanted"


def test_a_resume_takes_nothing_that_belongs_to_a_stop(run_trader: Any) -> None:
    assert run_trader("switch", "resume", "--reason", "over", "--flatten").code == 2
