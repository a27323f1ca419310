"""The sweep's deep look, which alone finds what is old: seldom where it is dear, and never half a minute late."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

import pipeline.sweep
from pipeline.sweep import Sweep

BEGINNING = pipeline.sweep._BEGINNING


class House:
    """A sweep whose looks take so long, and the times at which it looked deeply."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, look_s: float) -> None:
        self.now, self.look_s, self.deep_at = 100.0, look_s, list[float]()
        monkeypatch.setattr(pipeline.sweep, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(pipeline.sweep, "QueueView", lambda url: None)
        monkeypatch.setattr(pipeline.sweep.commands, "oldest_due", self.oldest_due)
        monkeypatch.setattr(Sweep, "_part", lambda self, part: None)
        desk = SimpleNamespace(
            environment=SimpleNamespace(queue_url=""),
            store=SimpleNamespace(unit=nullcontext),
            now=lambda: datetime(2026, 11, 23, tzinfo=UTC),
        )
        self.sweep = Sweep(desk)  # type: ignore[arg-type]

    def oldest_due(self, unit: object, now: datetime, since: datetime) -> dict[object, object]:
        if since == BEGINNING:
            self.deep_at.append(self.now)
            self.now += self.look_s
        return {}

    def run(self, seconds: int) -> list[float]:
        for second in range(seconds):
            self.now = max(self.now, 100.0 + second)
            self.sweep.run()
        return self.deep_at


@pytest.mark.parametrize(
    ("look_s", "expected"),
    [(0.0, [100.0, 101.0, 102.0]), (0.1, [100.0, 102.0, 104.0]), (22.0, [100.0, 130.0, 160.0])],
    ids=["cheap", "dear", "stopped in the middle"],
)
def test_a_deep_look_costs_a_twentieth_and_comes_twice_a_minute(
    look_s: float, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert House(monkeypatch, look_s).run(70)[:3] == expected
