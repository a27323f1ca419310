"""The two commands as people run them: as processes of their own, against the whole system."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ops.processes import coordinator_stack
from ops.stack import PROJECT
from ops.supervisor import ProcessFailed

ROOT = PROJECT / ".run-test" / "cli" / ".run"  # named as a person's, so that the commands find it by themselves
ORDERS = PROJECT / "examples" / "orders.json"
SERVERS = ("DATABASE_URL", "OWNER_DATABASE_URL", "RABBITMQ_URL", "REDIS_URL", "TRADER_URL", "TRADER_KEY")
pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("cli")]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class System:
    """A running stack, and the commands run in a folder below it."""

    def __init__(self, folder: Path, control_url: str) -> None:
        self._folder, self._control_url = folder, control_url

    def trader(self, *words: str, text: str | None = None, **variables: str) -> Ran:
        return self._run("trader", words, text, variables)

    def coordinator(self, *words: str) -> Ran:
        return self._run("coordinator", words, None, {})

    def place(self, *lines: dict[str, Any], words: tuple[str, ...] = ()) -> Ran:
        return self.trader("order", "place-multi", "-", "--json", *words, text=json.dumps({"orders": lines}))

    def fault(self, **what: Any) -> None:
        self._control("POST", what)

    def no_faults(self) -> None:
        self._control("DELETE", None)

    def _control(self, method: str, body: Any) -> None:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._control_url}/faults", data, method=method)
        with urllib.request.urlopen(request, timeout=5):
            pass

    def _run(self, program: str, words: tuple[str, ...], text: str | None, variables: dict[str, str]) -> Ran:
        command = [str(Path(sys.executable).with_name(program)), *words]
        environment = {name: value for name, value in os.environ.items() if name not in SERVERS} | variables
        environment["HOME"] = environment["XDG_CONFIG_HOME"] = str(self._folder)
        ran = subprocess.run(
            command, input=text, capture_output=True, text=True, cwd=self._folder, env=environment, timeout=120
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)


@pytest.fixture(scope="module")
def running() -> Iterator[System]:
    environment = {name: value for name, value in os.environ.items() if name not in SERVERS}
    stack = coordinator_stack(ROOT, fast=True, environment=environment)
    try:
        with stack:
            below = ROOT.parent / "somewhere" / "below"
            below.mkdir(parents=True, exist_ok=True)
            yield System(below, stack.facts["simulators"]["control"])
    except ProcessFailed as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the servers can't be started here: {error}")
    finally:
        shutil.rmtree(stack.folder.outside, ignore_errors=True)
        shutil.rmtree(ROOT.parent, ignore_errors=True)


@pytest.fixture
def system(running: System) -> Iterator[System]:
    running.no_faults()
    yield running
    running.no_faults()


def a_line(**more: Any) -> dict[str, Any]:
    line = json.loads(ORDERS.read_text())["orders"][0] | more
    return {name: value for name, value in line.items() if value is not None}


def a_filled_order(system: System) -> dict[str, Any]:
    """One that was placed and has filled: its book may be read a few seconds later, when many reads came before."""
    placed = system.place(a_line()).document["orders"][0]
    deadline = time.monotonic() + 60
    while True:
        order: dict[str, Any] = system.trader("order", "show", placed["orderId"], "--json").document
        if order["state"] == "FILLED":
            return order
        assert time.monotonic() < deadline, order


def test_the_example_is_placed_at_two_brokers_in_three_segments_without_any_configuration(system):
    ran = system.trader("order", "place-multi", str(ORDERS), "--json")

    assert ran.code == 0, ran.err
    orders = ran.document["orders"]
    assert ran.document["status"] == "DONE"
    assert [order["state"] for order in orders] == ["FILLED", "FILLED", "FILLED", "FILLED", "OPEN"]
    assert {order["broker"] for order in orders} == {"UPSTOX", "ZERODHA"}
    assert {order["instrument"].split(":")[0] for order in orders} == {"NSE", "BSE", "NFO", "CDS"}


def test_the_table_for_a_person_names_every_line(system):
    ran = system.trader("order", "place-multi", str(ORDERS), COLUMNS="80")

    assert ran.code == 0
    assert max(len(line) for line in ran.out.splitlines()) <= 80
    assert "sbin-rests" in ran.out
    assert "to repeat safely, add --idempotency-key" in ran.err


def test_one_key_makes_one_intent_however_often_it_is_sent(system):
    key = "acceptance-of-the-cli-1"
    first = system.place(a_line(), words=("--idempotency-key", key))
    again = system.place(a_line(), words=("--idempotency-key", key))

    assert (first.code, again.code) == (0, 0)
    assert first.document["intentId"] == again.document["intentId"]
    assert (first.document["replayed"], again.document["replayed"]) == (False, True)

    other = system.place(a_line(quantity=11), words=("--idempotency-key", key))

    assert other.code == 1
    assert other.document["code"] == "IDEMPOTENCY_KEY_REUSED"


def test_some_rejected_is_3_and_all_rejected_is_4(system):
    bad = a_line(correlationId="bad", price="1140.03")

    some, every = system.place(a_line(), bad), system.place(bad)

    assert (some.code, every.code) == (3, 4)
    assert some.document["orders"][1]["reason"]["code"] == "TICK_SIZE"


def test_a_malformed_file_is_told_by_its_row_and_nothing_is_placed(system):
    before = system.trader("intents", "--json").document["intents"]

    ran = system.place(a_line(), a_line(correlationId="two", quantity=0))

    assert ran.code == 1
    assert "line 2 (two) quantity" in ran.err
    assert system.trader("intents", "--json").document["intents"] == before


def test_an_outcome_that_nobody_knows_is_5_and_its_story_says_so(system):
    system.fault(kind="drop_before", endpoint="place", facade="zerodha")

    ran = system.place(a_line(broker="ZERODHA"), words=("--timeout", "5"))

    assert ran.code == 5
    order = ran.document["orders"][0]
    assert order["state"] == "UNKNOWN"
    assert "Don't place it again" in ran.err
    told = system.trader("order", "explain", order["orderId"][-8:])
    assert "nobody can say yet whether ZERODHA took it" in told.out


def test_an_order_is_explained_with_its_verdicts_its_call_and_its_fill(system):
    order = a_filled_order(system)

    told = system.trader("order", "explain", order["orderId"]).out

    for words in (
        "asked for BUY 10 NSE:INFY",
        "risk     ✓",
        "margin   ✓",
        "gave a receipt",
        "ACCEPTED  broker order id",
        "fills",
        "brokerage",
        "now FILLED",
    ):
        assert words in told


def test_what_was_placed_is_listed(system):
    order = a_filled_order(system)

    orders = system.trader("orders", "--instrument", "NSE:INFY", "--json").document["orders"]
    trades = system.trader("order", "trades", order["orderId"], "--json").document["trades"]

    assert order["orderId"] in [one["orderId"] for one in orders]
    assert sum(trade["quantity"] for trade in trades) == 10
    assert "UP0001" in system.trader("brokers").out
    assert system.trader("version", "--json").document["coordinator"]["version"]


def test_a_wrong_key_and_a_wrong_address_are_told_apart(system):
    base_url = json.loads((ROOT / "stack.json").read_text())["base_url"]

    assert system.trader("orders", TRADER_URL=base_url, TRADER_KEY="nobodys").code == 1
    assert system.trader("orders", TRADER_URL="http://127.0.0.1:1", TRADER_KEY="k").code == 7


def test_the_doctor_finds_nothing_wrong_and_nothing_is_stuck(system):
    ran = system.coordinator("doctor", "--json")

    assert ran.code == 0, ran.out
    assert ran.document["healthy"] is True
    assert system.coordinator("dlq", "list", "--json").document == {"stuck": [], "next": None}
    assert system.coordinator("migrate", "--json").document["changed"] is False


def test_the_record_of_the_running_system_is_whole(system):
    order = a_filled_order(system)

    ran = system.coordinator("verify", "--json")

    assert (ran.code, ran.document["whole"], ran.document["breaches"]) == (0, True, [])
    assert ran.document["orders"] >= 1
    assert system.coordinator("verify", "--since", "1d", "--record-only").code == 0
    assert order["orderId"] not in ran.out
