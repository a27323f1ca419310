"""`coordinator reconcile` on a live stack: it agrees with brokers that lag and repeat, and tells of trading elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from live import FILLS, RESTS, System, until

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("live")]
SERVERS = ("DATABASE_URL", "OWNER_DATABASE_URL", "RABBITMQ_URL", "REDIS_URL")
LATE_S = 3.0


@pytest.fixture(autouse=True)
def short_lag(system: System) -> Iterator[None]:
    """Books that are at most five seconds behind."""
    system.use_settings(book_lag_s=5.0)
    yield
    system.change("delete from settings where name = 'book_lag_s'")


def reconcile(system: System, *words: str) -> tuple[int, Any]:
    environment = {name: value for name, value in os.environ.items() if name not in SERVERS}
    command = [str(Path(sys.executable).with_name("coordinator")), "reconcile", "--json", *words]
    ran = subprocess.run(
        command, capture_output=True, text=True, cwd=system.stack.folder.root.parent, env=environment, timeout=120
    )
    assert ran.stdout, ran.stderr
    return ran.returncode, json.loads(ran.stdout)


def by_hand(system: System, side: str) -> None:
    """A trade of the account's owner, on the broker's own terminal."""
    order = {
        "quantity": 3, "product": "I", "validity": "DAY", "price": 0, "instrument_token": "NSE_EQ|INE009A01021",
        "order_type": "MARKET", "transaction_type": side, "disclosed_quantity": 0, "trigger_price": 0, "is_amo": False,
        "slice": False,
    }  # fmt: skip
    url = system.stack.facts["simulators"]["upstox"] + "/v3/order/place"
    answer = httpx2.post(url, json=order, headers={"Authorization": "Bearer sim-upstox-token"}, trust_env=False)
    assert answer.status_code == 200, answer.text


def test_with_late_and_repeated_rows_the_record_and_the_brokers_agree(system: System) -> None:
    with (
        system.fault(kind="late_visibility", endpoint="place", seconds=LATE_S, count=None),
        system.fault(kind="late_visibility", endpoint="multi", seconds=LATE_S, count=None),
        system.fault(kind="duplicate_rows", endpoint="book", count=None),
    ):
        intent = system.accepted(FILLS, RESTS, FILLS | {"broker": "ZERODHA"}, RESTS | {"broker": "ZERODHA"})
        code, document = reconcile(system)

        assert (code, document["findings"], document["strays"]) == (0, [], [])
        assert {row["outcome"] for row in document["accounts"]} == {"AGREES"}
        states = [order["state"] for order in system.get(f"/v2/intents/{intent}")["orders"]]
        assert states == ["FILLED", "OPEN", "FILLED", "OPEN"]
    system.assert_sound()


def test_trading_elsewhere_is_told_until_it_is_undone(system: System) -> None:
    by_hand(system, "BUY")
    code, document = reconcile(system, "--broker", "UPSTOX")
    told = [(finding["kind"], finding["subject"], finding["ours"], finding["theirs"]) for finding in document["findings"]]
    assert (code, told) == (1, [("POSITION", "NSE:INFY MIS", "+0", "+3")])

    by_hand(system, "SELL")

    assert reconcile(system, "--broker", "UPSTOX")[0] == 0
    system.assert_sound()


def test_the_clock_has_every_account_compared_without_being_asked(system: System) -> None:
    until(lambda: not system.rows("select 1 from accounts a left join reconciliations r on r.account_id = a.id where r.ended_at is null"))
    system.use_settings(reconcile_every_s=2.0)
    intent = system.accepted(RESTS)
    system.settled(intent)
    (before,) = system.rows("select max(looks) as looks from reconciliations")

    # The first look is due when the old setting wanted it: after a minute.
    until(lambda: system.rows("select 1 from reconciliations where looks > %s", (before["looks"] + 1,)), within_s=90)
    system.change("delete from settings where name = 'reconcile_every_s'")
