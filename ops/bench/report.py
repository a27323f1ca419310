"""The report: tables for a person, and bench.json for whatever compares runs."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.bench.targets import target_table, verdicts

Results = Mapping[str, Any]
PARTS = (("accept", "accept"), ("accept_to_broker", "accept → broker"), ("accept_to_final", "accept → final"))


def document(results: Results, *, began: datetime, lengths: Mapping[str, float]) -> dict[str, Any]:
    """What bench.json holds: the headline figures first, then everything."""
    found: dict[str, Any] = {}
    if _has(results, "single"):
        found["single"] = _headline(results["single"])
        if _has(results, "plain"):
            ratio = results["single"]["orders_per_s"] / max(results["plain"]["orders_per_s"], 1e-9)
            found["single"]["ratio_to_dramatiq"] = round(ratio, 2)
    if _has(results, "batch20"):
        found["batch20"] = _headline(results["batch20"])
    if _has(results, "latency"):
        found["latency_ms"] = {part: _two(results["latency"][part]) for part, _ in PARTS}
    if _has(results, "plain"):
        slow = results["plain"]["latency"]
        found["dramatiq"] = {
            "shape": results["plain"]["shape"],
            **_headline(results["plain"]),
            "latency_ms": {part: _two(slow[f"{part}_ms"]) for part in ("accept_to_broker", "accept_to_final")},
        }
    found["targets"] = verdicts(results)
    found["began"] = began.isoformat(timespec="seconds")
    found["took_s"] = round((datetime.now(UTC) - began).total_seconds())
    found["lengths"] = dict(lengths)
    found["host"] = host()
    found["scenarios"] = dict(results)
    return found


def write(path: Path, found: Mapping[str, Any]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(found, indent=2) + "\n")
    new.replace(path)


def show(console: Console, results: Results, host: Mapping[str, Any]) -> None:
    """The tables, and what is needed to compare them with another machine's or hour's."""
    for table in (throughput_table(results), latency_table(results), cpu_table(results), target_table(results)):
        if table.row_count:
            console.print(table)
    cores, processor, seconds = host["cores"], host["processor"], host["yardstick_s"]
    console.print(f"{cores} cores, {processor}; ten million additions in Python took {seconds:.2f} s of one")
    for name, found in runs(results):
        if problem := found["tally"].get("first_problem"):
            console.print(f"{name}: an answer that is neither 202 nor 503:\n{problem}", markup=False, highlight=False)


def runs(results: Results) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every measurement under load, by a name that says which; of slices the first and the last."""
    for name, found in results.items():
        if name == "plain" or "error" in found:
            continue
        if "slices" in found:
            yield f"{name}, first", found["slices"][0]
            yield f"{name}, last", found["slices"][-1]
        elif "orders_per_s" in found:
            yield name, found
        else:
            for part, each in found.items():
                if isinstance(each, Mapping) and "orders_per_s" in each:
                    yield f"{name}, {part}", each


def throughput_table(results: Results) -> Table:
    table = _table("Throughput, orders/s", ("offered", "accepted", "finished", "503s", "CPU ms each", "rest took s"))
    for name, found in runs(results):
        table.add_row(
            name,
            f"{found['offered_per_s']:,.0f}",
            f"{found['accepted_per_s']:,.0f}",
            f"{found['orders_per_s']:,.0f}",
            f"{found['tally']['statuses'].get('503', 0):,}",
            f"{found['cpu_ms_per_order']:.2f}",
            f"{found['finished_after_s']:.1f}" if not found["unfinished"] else f"{found['unfinished']:,} left",
        )
    if _has(results, "plain"):
        found = results["plain"]["throughput"]
        cost = f"{found['cpu_ms_per_order']:.2f}"
        table.add_row("plain chain", "", "", f"{found['orders_per_s']:,.0f}", "", cost, "")
    return table


def latency_table(results: Results) -> Table:
    ranks = ("p50", "p90", "p99", "p999", "max")
    table = _table("Latency, ms", ["", *ranks])
    for name, found in runs(results):
        for part, shown in PARTS:
            if found[part]:
                table.add_row(name, shown, *(f"{found[part][rank]:,.1f}" for rank in ranks))
    if _has(results, "plain"):
        slow = results["plain"]["latency"]
        for part, shown in PARTS[1:]:
            if theirs := slow[f"{part}_ms"]:
                table.add_row("plain chain at 20/s", shown, *(f"{theirs[rank]:,.1f}" for rank in ranks))
    return table


def cpu_table(results: Results) -> Table:
    """Cores in use, by process. PostgreSQL's share is broken down by the process it worked for."""
    columns = list(runs(results))
    if _has(results, "plain"):
        columns.append(("plain chain", results["plain"]["throughput"]))
    names = sorted({part for _, found in columns for part, cores in found["cpu_cores"].items() if cores >= 0.001})
    table = _table("CPU, cores", [name for name, _ in columns])
    for part in sorted(names, key=lambda name: (":" in name, name)):
        table.add_row(part, *(f"{found['cpu_cores'].get(part, 0.0):.2f}" for _, found in columns))
    return table


def host() -> dict[str, Any]:
    return {
        "yardstick_s": round(yardstick_s(), 2),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
    }


def yardstick_s() -> float:
    """Seconds of processor time for ten million additions: how fast this machine is at this hour. The best of three."""
    return min(_additions_s() for _ in range(3))


def _additions_s() -> float:
    began, total = time.process_time(), 0
    for number in range(10_000_000):
        total += number
    return time.process_time() - began


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _table(title: str, columns: Any) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _has(results: Results, name: str) -> bool:
    return name in results and "error" not in results[name]


def _headline(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"orders_per_s": found["orders_per_s"], "cpu_ms_per_order": found["cpu_ms_per_order"]}


def _two(found: Mapping[str, float]) -> dict[str, float | None]:
    return {rank: found.get(rank) for rank in ("p50", "p99")}
