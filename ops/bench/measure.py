"""One measurement: the generator runs in a process of its own, and what happened meanwhile is read off the record."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.bench.bed import BROKER, Bed
from ops.bench.figures import OURS, Figures, Window
from ops.bench.plan import Plan, Tally, read_tally

FINISH_WITHIN_S = 30.0
CONNECTIONS = 256  # enough that a door which falls behind is seen to, instead of requests piling up at the generator
LOOK_EVERY_S = 0.1
MISSING = (
    "select count(*) from unnest(%s::uuid[]) as given(id) where not exists (select from intents where id = given.id)"
)


class CouldNotMeasure(Exception):
    """There is no figure; the message says why."""


@dataclass(kw_only=True)
class Measured:
    """One run under load. Rates are orders per second over the measured window, latencies milliseconds."""

    offered_per_s: float
    accepted_per_s: float
    orders_per_s: float  # finished
    accept: dict[str, float]
    accept_to_broker: dict[str, float]
    accept_to_final: dict[str, float]
    orders: int  # of the whole run
    unfinished: int
    finished_after_s: float  # from the end of the load until nothing was left
    lost: int  # intents that were answered with 202 and are not in the record
    states: dict[str, int]
    cpu_cores: dict[str, float]
    private_mb: dict[str, float]  # at the end of the window
    tally: Tally
    seconds: float
    samples: list[Any] = field(default_factory=list)

    @property
    def cpu_ms_per_order(self) -> float:
        """CPU of everything but the generator and what is counted twice, per finished order."""
        parts = sum(cores for name, cores in self.cpu_cores.items() if name != "generator" and ":" not in name)
        return round(parts * 1000 / self.orders_per_s, 3) if self.orders_per_s else 0.0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "cpu_ms_per_order": self.cpu_ms_per_order}


def measure(
    bed: Bed,
    *,
    seconds: float,
    warmup_s: float,
    rate: float = 0.0,
    window: int = 0,
    lines: int = 1,
    connections: int = CONNECTIONS,
    wait_s: float = FINISH_WITHIN_S,
    sample: Callable[[], Any] | None = None,
    sample_every_s: float = 2.0,
) -> Measured:
    """Put load on the bed for `warmup_s` and then `seconds`, and measure the latter.

    `rate` is intents per second, each of `lines` orders; with `window` instead so many requests are under way at any
    time. Waits at most `wait_s` for what was accepted to finish. `sample` is called now and then while it lasts.
    """
    since = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        ids = Path(folder) / "ids"
        plan = Plan(
            host="127.0.0.1",
            port=bed.port,
            api_key=bed.api_key,
            accounts=bed.accounts,
            instruments=bed.instruments,
            broker=BROKER.upper(),
            lines=lines,
            rate=rate,
            window=window,
            seconds=warmup_s + seconds,
            warmup_s=warmup_s,
            connections=connections,
            intent_ids=str(ids),
        )
        generator = subprocess.Popen(
            [sys.executable, "-m", "ops.bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert generator.stdin is not None
            assert generator.stdout is not None
            generator.stdin.write(json.dumps(asdict(plan)))
            generator.stdin.close()
            started = json.loads(generator.stdout.readline() or "{}").get("started")
            if started is None:
                raise CouldNotMeasure("the generator didn't start; its error is above")
            pids = {"generator": generator.pid}
            _sleep_until(started + warmup_s)
            before, samples = bed.read(pids), []
            while sample is not None and time.time() + sample_every_s < started + warmup_s + seconds:
                samples.append(sample())
                time.sleep(sample_every_s)
            _sleep_until(started + warmup_s + seconds)
            after = bed.read(pids)
            tally = read_tally(generator.stdout.read())
        finally:
            generator.kill()
            generator.wait()
        given = ids.read_bytes().decode()
    return _told(bed, tally, since, given, lines, wait_s, after.since(before), after.private_mb, samples)


def _told(
    bed: Bed,
    tally: Tally,
    since: datetime,
    given: str,
    lines: int,
    wait_s: float,
    cpu_s: dict[str, float],
    private_mb: dict[str, float],
    samples: list[Any],
) -> Measured:
    window = Window(datetime.fromtimestamp(tally.measured_from, UTC), datetime.fromtimestamp(tally.ended, UTC))
    with bed.connect() as connection:
        figures = Figures(connection, OURS, since)
        orders, unfinished = figures.unfinished()
        while unfinished and time.time() < tally.ended + wait_s:
            time.sleep(LOOK_EVERY_S)
            orders, unfinished = figures.unfinished()
        intent_ids = [given[at : at + 36] for at in range(0, len(given), 36)]
        missing = connection.execute(MISSING, [intent_ids]).fetchone()
        return Measured(
            offered_per_s=round((tally.sent + tally.given_up) * lines / (tally.ended - tally.started), 1),
            accepted_per_s=round(tally.accepted_per_s * lines, 1),
            orders_per_s=figures.orders_per_s(window),
            accept=tally.latency_ms,
            accept_to_broker=figures.accept_to_broker(window),
            accept_to_final=figures.accept_to_final(window),
            orders=orders,
            unfinished=unfinished,
            finished_after_s=round(figures.last_finished_after(window.end), 2),
            lost=missing[0] if missing else 0,
            states=figures.states(),
            cpu_cores={name: round(spent / window.seconds, 3) for name, spent in sorted(cpu_s.items())},
            private_mb=private_mb,
            tally=tally,
            seconds=window.seconds,
            samples=samples,
        )


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))
