from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from ops.bench.report import document, show, write
from ops.bench.targets import verdicts

SPREAD = {"p50": 4.0, "p90": 8.0, "p99": 20.0, "p999": 22.0, "max": 23.0, "count": 300}


def measured(**other: Any) -> dict[str, Any]:
    return {
        "offered_per_s": 1200.0,
        "accepted_per_s": 1000.0,
        "orders_per_s": 1000.0,
        "cpu_ms_per_order": 1.5,
        "accept": SPREAD,
        "accept_to_broker": SPREAD,
        "accept_to_final": SPREAD,
        "unfinished": 0,
        "finished_after_s": 0.5,
        "lost": 0,
        "states": {"SUBMITTED": 1000},
        "cpu_cores": {"web": 0.5, "postgres": 0.5, "postgres: web": 0.2},
        "private_mb": {"web": 50.0},
        "tally": {"statuses": {"202": 1000, "503": 200}, "without_retry_after": 0, "unanswered": 0},
        **other,
    }


def plain(orders_per_s: float = 90.0) -> dict[str, Any]:
    fast = {"orders_per_s": orders_per_s, "cpu_ms_per_order": 20.0, "cpu_cores": {"plain": 1.0}}
    slow = {"accept_to_broker_ms": {**SPREAD, "p50": 30.0}, "accept_to_final_ms": SPREAD}
    return {"shape": "2 processes", "throughput": fast, "latency": slow, **fast}


def verdict(results: dict[str, Any], what: str) -> dict[str, Any]:
    return next(each for each in verdicts(results) if each["what"] == what)


@pytest.mark.parametrize(
    ("theirs", "met", "holds"), [(100.0, True, True), (100.1, False, True), (200.0, False, True), (200.1, False, False)]
)
def test_ten_times_the_plain_chain_is_wanted_and_five_times_the_least(theirs: float, met: bool, holds: bool):
    found = verdict({"single": measured(), "plain": plain(theirs)}, "times the plain chain")

    assert (found["met"], found["holds"]) == (met, holds)


def test_without_the_plain_chain_there_is_no_ratio():
    whats = [each["what"] for each in verdicts({"single": measured()})]

    assert "times the plain chain" not in whats


def test_what_was_not_measured_is_missed():
    found = verdict({"latency": measured(accept={})}, "accept p50")

    assert (found["value"], found["met"], found["holds"]) == (None, False, False)


def test_a_scenario_that_failed_misses_its_targets():
    assert not verdict({"latency": {"error": "the generator didn't start"}}, "accept p50")["holds"]


def test_an_answer_lost_from_the_record_is_missed_whatever_else_holds():
    found = verdict({"single": measured(lost=1)}, "accepted, but not in the record")

    assert not found["holds"]


@pytest.mark.parametrize(
    "tally",
    [
        {"statuses": {"202": 1, "500": 1}, "without_retry_after": 0, "unanswered": 0},
        {"statuses": {"202": 1, "503": 1}, "without_retry_after": 1, "unanswered": 0},
        {"statuses": {"202": 1}, "without_retry_after": 0, "unanswered": 1},
    ],
)
def test_overload_is_answered_with_202_or_with_a_503_that_says_when_to_come_back(tally: dict[str, Any]):
    found = verdict({"overload": measured(kept=1.0, tally=tally)}, "neither 202 nor a good 503")

    assert found["value"] == 1


def test_the_document_begins_with_the_headline_figures():
    results = {"single": measured(), "batch20": measured(orders_per_s=5000.0), "latency": measured(), "plain": plain()}

    found = document(results, began=datetime.now(UTC), lengths={})

    assert found["single"] == {"orders_per_s": 1000.0, "cpu_ms_per_order": 1.5, "ratio_to_dramatiq": 11.11}
    assert found["batch20"]["orders_per_s"] == 5000.0
    assert found["latency_ms"]["accept_to_broker"] == {"p50": 4.0, "p99": 20.0}


def test_a_document_is_written_whole_and_shown(tmp_path):
    results = {
        "single": measured(),
        "plain": plain(),
        "latency": {"error": "no"},
        "snapshot": {"offered_per_s": 500.0, "cost_ratio": 1.0, "slices": [measured(), measured()]},
        "million": {"cost_ratio": 1.0, "empty": measured(), "full": measured()},
    }
    output = io.StringIO()

    write(tmp_path / "run" / "bench.json", document(results, began=datetime.now(UTC), lengths={}))
    show(Console(file=output, width=200), results, {"cores": 2, "processor": "a slow one", "yardstick_s": 1.5})

    assert json.loads((tmp_path / "run" / "bench.json").read_text())["single"]["orders_per_s"] == 1000.0
    for name in ("single", "plain chain", "snapshot, last", "million, full", "postgres: web"):
        assert name in output.getvalue()
