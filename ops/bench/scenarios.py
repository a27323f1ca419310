"""The scenarios: what load each puts on the bed, and what it gives into bench.json. Rates count orders, not intents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ops.bench.bed import BROKER, Bed
from ops.bench.comparison import PlainChain, Shape
from ops.bench.measure import CouldNotMeasure, Measured, measure
from ops.bench.stored import store_orders

RATE_OF_LATENCY = 20.0  # intents per second at which latencies are measured
OVER = 1.3  # the offered load above what was found
KEEPS_UP = 0.95  # finished of offered: more than that, and the offer was too small
BATCH = 20
SLOW_S = 30
LEASE_S = 18.0  # after so long without an answer a call is Unknown
CROWD = 1_000  # connections of a client that doesn't wait for answers


@dataclass(frozen=True)
class Lengths:
    """How long things take, in seconds; and how many orders count as many."""

    steady_s: float = 15.0
    warmup_s: float = 3.0
    probe_s: float = 5.0
    plain_s: float = 12.0
    latency_s: float = 20.0
    snapshot_s: float = 300.0
    memory_orders: int = 100_000
    stored_orders: int = 1_000_000


SHORT = Lengths(
    steady_s=5.0,
    warmup_s=2.0,
    probe_s=3.0,
    plain_s=5.0,
    latency_s=8.0,
    snapshot_s=30.0,
    memory_orders=10_000,
    stored_orders=50_000,
)


@dataclass
class Bench:
    """A bed, and what has been found so far: a later scenario builds on an earlier one's figure where there is one."""

    bed: Bed
    lengths: Lengths
    shape: Shape
    note: Callable[[str], None]
    results: dict[str, Any] = field(default_factory=dict)

    def run(self, names: list[str]) -> dict[str, Any]:
        for name in names:
            self.bed.resume()
            self.note(f"{name} …")
            try:
                self.results[name] = SCENARIOS[name](self)
            except CouldNotMeasure as error:
                self.note(f"  {error}")
                self.results[name] = {"error": str(error)}
        return self.results

    def capacity(self, lines: int) -> float:
        """Orders per second that can be finished, in intents of so many lines: measured before, or found now."""
        known = self.results.get("batch20" if lines > 1 else "single", {})
        return float(known.get("orders_per_s") or self.find_capacity(lines))

    def find_capacity(self, lines: int) -> float:
        """By a closed loop that keeps enough requests under way to keep every stage busy, for a few seconds."""
        window = 64 if lines == 1 else 16
        found = measure(self.bed, seconds=self.lengths.probe_s, warmup_s=2.0, window=window, lines=lines)
        self.bed.settle()
        if not found.orders_per_s:
            raise CouldNotMeasure(f"nothing was finished under load: {found.tally.statuses}, {found.states}")
        return found.orders_per_s

    def saturate(self, lines: int) -> Measured:
        """A steady window at an offered load that is above what gets finished, raised until it is."""
        offered = self.find_capacity(lines) * OVER
        for _ in range(3):
            found = measure(
                self.bed,
                seconds=self.lengths.steady_s,
                warmup_s=self.lengths.warmup_s,
                rate=max(offered / lines, 1.0),
                lines=lines,
            )
            self.bed.settle()
            if found.orders_per_s < KEEPS_UP * offered:
                break
            self.note(f"  {found.orders_per_s:,.0f} orders/s of {offered:,.0f} offered were finished: offering more")
            offered *= 1.3
        return found

    def at_latency_rate(self, **more: Any) -> Measured:
        return measure(
            self.bed, seconds=self.lengths.latency_s, warmup_s=self.lengths.warmup_s, rate=RATE_OF_LATENCY, **more
        )


def single(bench: Bench) -> dict[str, Any]:
    """One order per intent, more of them than can be carried."""
    return bench.saturate(1).as_json()


def batch20(bench: Bench) -> dict[str, Any]:
    """Twenty orders per intent, more of them than can be carried."""
    return bench.saturate(BATCH).as_json()


def latency(bench: Bench) -> dict[str, Any]:
    """Twenty intents of one order a second."""
    return bench.at_latency_rate().as_json()


def plain(bench: Bench) -> dict[str, Any]:
    """The plain Dramatiq chain on the same servers, our own processes stopped meanwhile."""
    lengths, chain = bench.lengths, PlainChain(bench.bed, bench.shape)
    bench.bed.pause()
    with chain.running():
        fast = chain.throughput(warmup_s=lengths.warmup_s, seconds=lengths.plain_s)
    with chain.running():
        slow = chain.latency(rate=RATE_OF_LATENCY, warmup_s=lengths.warmup_s, seconds=lengths.latency_s)
    cost = {"cpu_ms_per_order": fast["cpu_ms_per_order"]}
    return {
        "shape": str(bench.shape),
        "orders_per_s": fast["orders_per_s"],
        **cost,
        "throughput": fast,
        "latency": slow,
    }


def slow_broker(bench: Bench) -> dict[str, Any]:
    """The same twenty intents a second while each call to the broker takes 30 s and its answer comes too late."""
    before = bench.at_latency_rate()
    with _stub_delay(bench.bed, SLOW_S):
        during = bench.at_latency_rate(wait_s=LEASE_S)
    bench.bed.renew()
    return {"before": before.as_json(), "during": during.as_json()}


def overload(bench: Bench) -> dict[str, Any]:
    """Twice the load that can be carried: between two looks at what that is, since the machine's speed drifts."""
    before = bench.find_capacity(1)
    found = measure(
        bench.bed,
        seconds=bench.lengths.steady_s,
        warmup_s=bench.lengths.warmup_s,
        rate=2 * before,
        connections=CROWD,
    )
    bench.bed.settle()
    capacity = (before + bench.find_capacity(1)) / 2
    return {"capacity_per_s": round(capacity, 1), "kept": round(found.orders_per_s / capacity, 3), **found.as_json()}


def memory(bench: Bench) -> dict[str, Any]:
    """A hundred thousand orders at a pace that is kept up with, and each process's private memory meanwhile."""
    rate = 0.6 * bench.capacity(BATCH)
    seconds = max(bench.lengths.memory_orders / rate, 20.0)
    found = measure(
        bench.bed,
        seconds=seconds,
        warmup_s=bench.lengths.warmup_s,
        rate=rate / BATCH,
        lines=BATCH,
        sample=lambda: bench.bed.read({}).private_mb,
        sample_every_s=max(seconds / 50, 1.0),
    )
    bench.bed.settle()
    samples = [sample for sample in found.samples if sample]
    early, late = samples[len(samples) // 5], samples[-1]
    ours = bench.bed.names()
    growth = {name: round(late[name] - early[name], 1) for name in ours}
    return {"early_mb": early, "late_mb": late, "growth_mb": growth, **found.as_json(), "samples": samples}


def million(bench: Bench) -> dict[str, Any]:
    """CPU per order at a fixed pace, before and after a million finished orders were stored."""
    rate = 0.5 * bench.capacity(1)

    def cost() -> Measured:
        found = measure(bench.bed, seconds=bench.lengths.steady_s, warmup_s=bench.lengths.warmup_s, rate=rate)
        bench.bed.settle()
        return found

    empty = cost()
    bench.note(f"  storing {bench.lengths.stored_orders:,} orders …")
    with bench.bed.connect() as connection:
        took_s = store_orders(connection, bench.lengths.stored_orders)
    bench.bed.settle()
    full = cost()
    bench.bed.renew()
    ratio = round(full.cpu_ms_per_order / max(empty.cpu_ms_per_order, 1e-9), 3)
    stored = {"stored": bench.lengths.stored_orders, "storing_s": round(took_s, 1)}
    return {**stored, "cost_ratio": ratio, "empty": empty.as_json(), "full": full.as_json()}


def snapshot(bench: Bench) -> dict[str, Any]:
    """Five minutes at a steady pace with a snapshot held open, so that nothing dead can be cleared away meanwhile."""
    rate = 0.5 * bench.capacity(1)
    slices = 5
    seconds = bench.lengths.snapshot_s / slices
    with bench.bed.connect() as holder, holder.transaction():
        holder.execute("set transaction isolation level repeatable read")
        holder.execute("select count(*) from accounts")
        found = [measure(bench.bed, seconds=seconds, warmup_s=1.0, rate=rate) for _ in range(slices)]
    bench.bed.settle()
    return {
        "held_s": bench.lengths.snapshot_s,
        "offered_per_s": round(rate, 1),
        "cost_ratio": round(found[-1].cpu_ms_per_order / max(found[0].cpu_ms_per_order, 1e-9), 3),
        "slices": [each.as_json() for each in found],
    }


@contextmanager
def _stub_delay(bed: Bed, seconds: float) -> Iterator[None]:
    name = f"dispatch-{BROKER}"
    bed.change(name, STUB_DELAY_S=str(seconds))
    try:
        yield
    finally:
        bed.change(name, STUB_DELAY_S="0")


SCENARIOS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "single": single,
    "batch20": batch20,
    "latency": latency,
    "plain": plain,
    "overload": overload,
    "memory": memory,
    "snapshot": snapshot,
    "million": million,
    "slow-broker": slow_broker,
}
DEFAULT = ("single", "batch20", "latency", "plain")
