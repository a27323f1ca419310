"""What the figures are judged by, and the table that shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

Results = Mapping[str, Any]
OPEN_STILL = ("RECEIVED", "SENDING", "UNKNOWN", "SUBMITTED")


@dataclass(frozen=True)
class Target:
    """One promise about one scenario's result. `least` is what must hold where `wanted` is more than that."""

    scenario: str
    what: str
    value: Callable[[Results], float]
    wanted: float
    unit: str
    at_most: bool = True
    least: float | None = None

    def found(self, results: Results) -> float | None:
        """The value; None where nothing was measured, which meets nothing."""
        try:
            return self.value(results)
        except (KeyError, IndexError, ValueError):
            return None

    def met(self, results: Results) -> bool:
        return self._within(self.found(results), self.wanted)

    def holds(self, results: Results) -> bool:
        """Whether at least the least is met."""
        return self._within(self.found(results), self.wanted if self.least is None else self.least)

    def _within(self, value: float | None, limit: float) -> bool:
        return value is not None and (value <= limit if self.at_most else value >= limit)


def _at(*path: str) -> Callable[[Results], float]:
    def value(results: Results) -> float:
        found: Any = results
        for step in path:
            found = found[step]
        return float(found)

    return value


def _ratio(results: Results) -> float:
    return float(results["single"]["orders_per_s"]) / max(float(results["plain"]["orders_per_s"]), 1e-9)


def _slowed(results: Results) -> float:
    """Accept p99 while the broker is slow, over the p99 before it was."""
    slow = results["slow-broker"]
    return float(slow["during"]["accept"]["p99"]) / max(float(slow["before"]["accept"]["p99"]), 1e-9)


def _ended(results: Results) -> float:
    """Orders that were ended although nobody can know yet: an answer 30 s late may still say that one was taken."""
    states = results["slow-broker"]["during"]["states"]
    return float(sum(count for state, count in states.items() if state not in OPEN_STILL))


def _other_answers(results: Results) -> float:
    """Under overload: answers that are neither 202 nor a 503 that says when to come back, and requests without one."""
    tally = results["overload"]["tally"]
    others = sum(count for status, count in tally["statuses"].items() if status not in ("202", "503"))
    return float(others + tally["without_retry_after"] + tally["unanswered"] + tally.get("given_up", 0))


def _growth(results: Results) -> float:
    return max(float(grown) for grown in results["memory"]["growth_mb"].values())


def _collapse(results: Results) -> float:
    """Finished in the worst slice over what was offered."""
    found = results["snapshot"]
    return min(float(each["orders_per_s"]) for each in found["slices"]) / float(found["offered_per_s"])


def _slowing(results: Results) -> float:
    """Accept to final p50 of the last slice over that of the first."""
    slices = results["snapshot"]["slices"]
    return float(slices[-1]["accept_to_final"]["p50"]) / max(float(slices[0]["accept_to_final"]["p50"]), 1e-9)


def _lost(results: Results) -> float:
    return float(sum(found.get("lost", 0) for found in results.values()))


TARGETS = (
    Target("single", "orders/s finished", _at("single", "orders_per_s"), 0, "/s", at_most=False),
    Target("single", "times the plain chain", _ratio, 10, "x", at_most=False, least=5),
    Target("batch20", "orders/s finished, 20 a request", _at("batch20", "orders_per_s"), 5000, "/s", False, 2000),
    Target("latency", "accept p50", _at("latency", "accept", "p50"), 5, "ms"),
    Target("latency", "accept p99", _at("latency", "accept", "p99"), 25, "ms"),
    Target("latency", "accept to broker p50", _at("latency", "accept_to_broker", "p50"), 12, "ms"),
    Target("latency", "accept to final p50", _at("latency", "accept_to_final", "p50"), 15, "ms"),
    Target("latency", "accept to final p99", _at("latency", "accept_to_final", "p99"), 30, "ms"),
    Target("overload", "of its capacity finished", _at("overload", "kept"), 0.9, "x", at_most=False),
    Target("overload", "accept to final, the longest", _at("overload", "accept_to_final", "max"), 10_000, "ms"),
    Target("overload", "accepted, not finished", _at("overload", "unfinished"), 0, ""),
    Target("overload", "neither 202 nor a good 503", _other_answers, 0, ""),
    Target("memory", "most that a process grew", _growth, 10, "MB"),
    Target("snapshot", "finished of offered, worst slice", _collapse, 0.95, "x", at_most=False),
    Target("snapshot", "cost per order, last to first slice", _at("snapshot", "cost_ratio"), 1.5, "x"),
    Target("snapshot", "accept to final p50, last to first slice", _slowing, 3, "x"),
    Target("million", "cost per order, full to empty", _at("million", "cost_ratio"), 1.15, "x"),
    Target("slow-broker", "accept p50", _at("slow-broker", "during", "accept", "p50"), 5, "ms"),
    Target("slow-broker", "accept p99, to that before", _slowed, 1.5, "x"),
    Target("slow-broker", "orders that were ended", _ended, 0, ""),
)


def chosen(results: Results) -> Iterator[Target]:
    """The targets of what was run."""
    for target in TARGETS:
        if target.scenario in results and ("plain" in results or target.value is not _ratio):
            yield target
    if "latency" in results and "latency" in results.get("plain", {}):
        theirs = float(results["plain"]["latency"]["accept_to_broker_ms"].get("p50", 0.0))
        ours = _at("latency", "accept_to_broker", "p50")
        yield Target("latency", "accept to broker p50, the plain chain's", ours, theirs, "ms")
    yield Target("all", "accepted, but not in the record", _lost, 0, "")


def verdicts(results: Results) -> list[dict[str, Any]]:
    """Each target with its value, for bench.json."""
    return [
        {
            "scenario": target.scenario,
            "what": target.what,
            "value": target.found(results),
            "wanted": target.wanted,
            "at_most": target.at_most,
            "met": target.met(results),
            "holds": target.holds(results),
        }
        for target in chosen(results)
    ]


def target_table(results: Results) -> Table:
    table = Table(title="Targets", title_justify="left")
    for heading in ("scenario", "what"):
        table.add_column(heading)
    table.add_column("value", justify="right")
    table.add_column("target", justify="right")
    table.add_column("")
    for target in chosen(results):
        sign = "≤" if target.at_most else "≥"
        mark = (
            "[green]met[/]"
            if target.met(results)
            else "[yellow]least[/]"
            if target.holds(results)
            else "[red]missed[/]"
        )
        found = target.found(results)
        value = "none" if found is None else f"{found:,.2f} {target.unit}".strip()
        table.add_row(target.scenario, target.what, value, f"{sign} {target.wanted:,g} {target.unit}".strip(), mark)
    return table
