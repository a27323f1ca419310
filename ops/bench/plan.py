"""What the generator is asked for, and what it gives back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Plan:
    host: str
    port: int
    api_key: str = field(repr=False)
    accounts: tuple[str, ...]  # orders are dealt out to them in turn
    instruments: tuple[tuple[str, str], ...]  # each with the price to bid
    broker: str = "STUB"
    lines: int = 1  # orders per intent
    rate: float = 0.0  # intents per second; 0: closed loop
    window: int = 0  # closed loop: requests under way at a time
    seconds: float = 10.0
    warmup_s: float = 0.0  # answered, but not measured
    connections: int = 64
    grace_s: float = 10.0  # for the answers still outstanding at the end
    backlog_max: int = 50_000  # due requests that find no connection; more are given up, and counted
    intent_ids: str | None = None  # a file for the ids accepted, 36 bytes each


@dataclass
class Tally:
    """What came back. Times of day are epoch seconds, latencies milliseconds from when a request was due."""

    started: float = 0.0
    measured_from: float = 0.0
    ended: float = 0.0  # of the schedule; answers may come later
    sent: int = 0
    given_up: int = 0
    unanswered: int = 0
    disconnects: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    without_retry_after: int = 0  # of the 503s
    accepted_measured: int = 0  # answered with 202 while it was measured, whenever they were due
    latency_ms: dict[str, float] = field(default_factory=dict)
    refusal_latency_ms: dict[str, float] = field(default_factory=dict)
    lag_ms: dict[str, float] = field(default_factory=dict)  # due to sent: the generator's own lateness and the backlog
    cpu_us_per_request: float = 0.0
    first_problem: str = ""  # the first answer that was neither 202 nor 503

    @property
    def accepted(self) -> int:
        return self.statuses.get("202", 0)

    @property
    def accepted_per_s(self) -> float:
        return self.accepted_measured / max(self.ended - self.measured_from, 1e-9)


def read_tally(text: str) -> Tally:
    return Tally(**json.loads(text))
