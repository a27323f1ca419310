"""Where a process may die between two steps, a crash point stands."""

from __future__ import annotations

from tests.chaos.points import bare_calls, bare_commits, bare_publishes, points


def test_every_unit_that_writes_has_a_crash_point() -> None:
    assert bare_commits() == []


def test_whatever_publishes_or_acknowledges_has_a_crash_point() -> None:
    assert bare_publishes() == []


def test_a_broker_call_has_a_crash_point_before_its_bytes_after_them_and_after_its_answer() -> None:
    assert bare_calls() == []


def test_points_with_a_stage_in_their_name_are_there_for_each_stage() -> None:
    names = {point.name for point in points()}

    assert {f"{stage}.before_commit" for stage in ("validate", "risk", "margin", "route", "persist", "notify")} <= names
    assert {"dispatch.upstox.set_aside.before_commit", "dispatch.zerodha.set_aside.before_commit"} <= names
    assert "dispatch.upstox.after_claim" not in names
