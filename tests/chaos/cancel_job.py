"""`python -m tests.chaos.cancel_job`: thousands of open orders cancelled as one job, with the simulator's book as the judge.

They lie in many accounts at two brokers, whose simulators enforce their rate limits. Some are filled while the job runs,
a dispatch worker is killed in the middle, and orders that the job doesn't mean lie beside the others. What is judged: no
order is missed, none is touched that wasn't meant, what each line is told is what the broker's book shows, and no
simulator had to answer 429.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from ops.interrupts import Interrupted, handling_interrupts
from ops.processes import SIMULATED
from ops.sandbox import SandboxAccount
from ops.sandbox import seed as open_accounts
from ops.stack import PROJECT, Stack
from ops.supervisor import ProcessFailed
from tests.chaos.bed import LIMIT_PAISE, ROOT, Bed, until

ORDERS, ACCOUNTS = 10_000, 24
LINES = 100  # of one place intent
LETTERS = {"upstox": "UP", "zerodha": "ZR"}
RESTING: dict[str, Any] = {
    "instrument": "NSE:SBIN", "side": "BUY", "quantity": 2, "product": "CNC", "orderType": "LIMIT", "price": "975.00",
}  # fmt: skip
KEPT = "keep"  # the tag of what the job doesn't mean
KILLED_AT = 0.4  # of the cancel calls
FILLED_SHARE = 0.01
ALL_SETTINGS = {
    "max_orders_per_batch": 500,
    "admission_age_s": 30.0,
    "max_unsent_s": 7_200,
    "place_timeout_s": 5.0,
    "read_timeout_s": 10.0,
}
VERIFIED_WITHIN_S = 900.0
ENDED = "('CANCELLED', 'FILLED', 'REJECTED', 'EXPIRED')"

Told = Callable[[str], None]


@dataclass(slots=True)
class Result:
    """What came of a job. Times in seconds."""

    seed: str
    orders: int
    accounts: int
    placed_s: float = 0.0
    accepted_s: float = 0.0  # until the 202
    calls_s: float = 0.0  # from the 202 to the answer of the last call
    settled_s: float = 0.0  # from the 202 until it was known what came of every line
    killed: str = ""
    results: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    asked_twice: int = 0  # orders of which the broker was asked more than once
    answered_429: int = 0
    most_in_a_second: dict[str, int] = field(default_factory=dict)  # attempts of one account, written before they are sent
    most_in_a_minute: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return not self.violations


class JobBed(Bed):
    """A bed with as many accounts as are asked for, half of them at each broker."""

    def __init__(self, root: Path, *, accounts: int, seed: str, fast: bool, keep: bool) -> None:
        super().__init__(root, seed=seed, fast=fast, keep=keep)
        each = accounts // len(SIMULATED)
        self.accounts = [f"{LETTERS[facade]}{number:04}" for number in range(1, each + 1) for facade in SIMULATED]
        self._each = each

    def __enter__(self) -> JobBed:
        super().__enter__()
        for facade in SIMULATED:
            if self._each > 2:  # the bed has made two
                self.control("POST", "/accounts", {"facade": facade, "count": self._each - 2})
            self.control("PUT", "/postbacks", {"url": f"{self.stack.base_url}/postbacks/{facade}", "facade": facade})
        return self

    def try_to(self, method: str, path: str, body: Any) -> bool:
        """Whether the simulator could do it: an order may be over by then."""
        assert self._control is not None
        answer = self._control.request(method, path, json=body)
        assert answer.status_code in (200, 409), answer.text
        return bool(answer.status_code == 200)

    def verify(self) -> str:
        """As a bed's, with the time that many orders take."""
        command = [sys.executable, "-m", "ops.coordinator", "verify"]
        ran = subprocess.run(
            command,
            env=self.stack.environment(),
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=VERIFIED_WITHIN_S,
            check=False,
        )
        return "" if ran.returncode == 0 else f"{ran.stdout}{ran.stderr}".strip()

    def _prepare(self, stack: Stack) -> dict[str, Any]:
        facts = super()._prepare(stack)
        more = tuple(
            SandboxAccount(
                f"{LETTERS[facade]}{number:04}", facade,
                f"sim-{facade}-key-{number}", f"sim-{facade}-secret-{number}", f"sim-{facade}-token-{number}",
            )
            for facade in SIMULATED
            for number in range(3, self._each + 1)
        )  # fmt: skip
        open_accounts(stack.database_url, secret=stack.folder.secret("secret"), known_keys=facts["keys"], accounts=more)
        with psycopg.connect(stack.owner_database_url) as connection:
            connection.execute("update accounts set limit_paise = %s", (LIMIT_PAISE,))
            for name, value in ALL_SETTINGS.items():
                connection.execute(
                    "insert into settings (name, value, updated_by) values (%s, %s::jsonb, 'chaos')"
                    " on conflict (name) do update set value = excluded.value, version = settings.version + 1",
                    (name, json.dumps(value)),
                )
        return facts


class Job:
    """One run: place, cancel, judge."""

    def __init__(self, bed: JobBed, orders: int, told: Told) -> None:
        self._bed, self._told = bed, told
        self._chance = random.Random(f"{bed.seed} job")
        self._tag = f"job-{bed.seed}"
        self._client = httpx2.Client(
            base_url=bed.stack.base_url,
            headers={"Authorization": f"Bearer {bed.key}"},
            timeout=180.0,
            trust_env=False,
            limits=httpx2.Limits(max_connections=8),
        )
        self._record = psycopg.connect(bed.record, autocommit=True)
        self._clients = ThreadPoolExecutor(4, thread_name_prefix="place")
        self.result = Result(bed.seed, orders, len(bed.accounts))

    def run(self, *, within_s: float) -> Result:
        try:
            self._place(within_s)
            intent_id = self._cancel()
            self._follow(intent_id, within_s)
            self._judge(intent_id)
        finally:
            self._client.close()
            self._record.close()
            self._clients.shutdown(wait=False, cancel_futures=True)
        return self.result

    # What lies at the brokers

    def _place(self, within_s: float) -> None:
        began, accounts, orders = time.monotonic(), self._bed.accounts, self.result.orders
        shares = [orders // len(accounts) + (number < orders % len(accounts)) for number in range(len(accounts))]
        intents = list(self._intents(accounts, shares))
        list(self._clients.map(self._hand_in, intents))
        wanted = orders + len(accounts)
        self._told(f"{wanted} orders are accepted after {time.monotonic() - began:.0f} s; waiting until all rest at the exchange")
        shown = 0.0

        def all_open() -> bool:
            nonlocal shown
            ((count,),) = self._rows("select count(*) from orders where state = 'OPEN'")
            if time.monotonic() - shown > 10:
                shown = time.monotonic()
                self._told(f"  {count} of {wanted} rest")
            return bool(count == wanted)

        until(all_open, within_s=within_s, every_s=0.5)
        states = dict(self._rows("select state, count(*) from orders group by state"))
        assert states == {"OPEN": wanted}, f"not all orders rest: {states}"
        self.result.placed_s = round(time.monotonic() - began, 1)

    def _intents(self, accounts: Sequence[str], shares: Sequence[int]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """(key, lines), those of different accounts in turns, and in each account one that the job doesn't mean."""
        for part in range(max(shares) // LINES + 1):
            for account, share in zip(accounts, shares, strict=True):
                count = max(0, min(LINES, share - part * LINES))
                lines = [{**RESTING, "tag": self._tag, "account": account} for _ in range(count)]
                lines += [{**RESTING, "tag": KEPT, "account": account}] if part == 0 else []
                if lines:
                    numbered = [{**line, "correlationId": f"c{number}"} for number, line in enumerate(lines)]
                    yield f"cancel-job-{self._tag}-{account}-{part}", numbered

    def _hand_in(self, intent: tuple[str, list[dict[str, Any]]]) -> None:
        key, lines = intent
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            answer = self._client.post("/v2/orders/multi", json={"orders": lines}, headers={"Idempotency-Key": key})
            if answer.status_code == 202:
                return
            assert answer.status_code in (429, 503), answer.text
            time.sleep(0.3)
        raise AssertionError(f"{key} was never accepted")

    # The job

    def _cancel(self) -> str:
        self._fill(partly=False)  # of which the record may not know yet
        began = time.monotonic()
        body = {"filter": {"tag": self._tag}, "mode": "HARD", "policy": "BEST_EFFORT"}
        answer = self._client.post(
            "/v2/orders/multi/cancel", json=body, headers={"Idempotency-Key": f"cancel-job-{self._tag}-cancel"}
        )
        assert answer.status_code == 202, answer.text
        self.result.accepted_s = round(time.monotonic() - began, 2)
        told = answer.json()
        ended = self.result.orders - told["matched"]
        if ended > max(2, self.result.orders * FILLED_SHARE):
            self._found(f"{told['matched']} of {self.result.orders} orders were matched")
        self._told(f"{told['matched']} orders matched, accepted in {self.result.accepted_s:.2f} s")
        self._matched = int(told["matched"])
        return str(told["intentId"])

    def _follow(self, intent_id: str, within_s: float) -> None:
        began = shown = time.monotonic()
        has_filled = False
        while time.monotonic() - began < within_s:
            ((calls, answered_at),) = self._rows(
                "select count(*), extract(epoch from max(ended_at)) from attempts where kind = 'CANCEL'"
            )
            ((settled,),) = self._rows(
                "select count(*) from changes where intent_id = %s and result is not null", intent_id
            )
            if not has_filled and calls > self._matched * 0.2:
                has_filled = True
                self._fill(partly=False)
                self._fill(partly=True)
            if not self.result.killed and calls > self._matched * KILLED_AT:
                name = f"dispatch-{self._chance.choice(SIMULATED)}"
                self._bed.stack.kill(name)
                self.result.killed = f"{name} after {calls} cancel calls, {settled} lines settled"
                self._told(f"  killed {self.result.killed}")
            if settled == self._matched:
                self.result.settled_s = round(time.monotonic() - began, 1)
                ((accepted_at,),) = self._rows("select extract(epoch from accepted_at) from intents where id = %s", intent_id)
                self.result.calls_s = round(float(answered_at - accepted_at), 1) if answered_at else 0.0
                return
            if time.monotonic() - shown > 5:
                shown = time.monotonic()
                self._told(f"  {shown - began:5.0f} s  {calls} calls, {settled} of {self._matched} lines settled")
            time.sleep(0.3)
        self._found(f"{self._matched - settled} of {self._matched} lines had no result after {within_s:.0f} s")

    def _fill(self, *, partly: bool) -> None:
        """The exchange fills some that rest there, if nothing else comes of them first."""
        tags = {row[0] for row in self._rows("select broker_tag from orders where tag = %s", self._tag)}
        resting = sorted(row["order_id"] for row in self._bed.book() if row["tag"] in tags and not row["final"])
        count = min(len(resting), max(2, int(len(tags) * FILLED_SHARE / 2)))
        for order_id in self._chance.sample(resting, count):
            body = {"order_id": order_id, "price": "975.00"} | ({"quantity": 1} if partly else {})
            self._bed.try_to("POST", "/fills", body)

    # The judgement

    def _judge(self, intent_id: str) -> None:
        result = self.result
        book = {row["tag"]: row for row in self._bed.book()}
        if len(book) != len(self._bed.book()):
            self._found("two orders at a broker have one tag")
        lines = {line["orderId"]: line for line in self._lines(intent_id)}
        if len(lines) != result.orders:
            answered = result.orders - len(lines)
            ended = self._rows("select count(*) from orders where tag = %s and not changing > 0 and state = 'FILLED'", self._tag)
            if answered > ended[0][0]:
                self._found(f"the intent has {len(lines)} lines for {result.orders} orders")
        result.results = dict(sorted(Counter(str(line["result"]) for line in lines.values()).items()))
        for order_id, tag, broker_tag, state, filled in self._rows(
            "select id::text, tag, broker_tag, state, filled_quantity from orders"
        ):
            truth = book.get(broker_tag)
            if truth is None:
                self._found(f"order {order_id} is in no book")
            elif tag == KEPT:
                if truth["final"] or state != "OPEN":
                    self._found(f"order {order_id} was not meant: {state}, {truth['state']} at its broker")
            else:
                self._compare(order_id, state, filled, truth, lines.get(order_id))
        self._rates()
        counted = Counter(
            {(one["facade"], one["endpoint"]): one["count"] for one in self._bed.control("GET", "/requests") if one["status"] == 429}
        )
        result.answered_429 = sum(counted.values())
        if result.answered_429:
            self._found(f"simulators answered 429: {dict(counted)}")
        if not result.killed:
            self._found("no worker was killed: the job was over before")
        if found := self._bed.verify():
            self._found(f"coordinator verify: {found}")

    def _compare(self, order_id: str, state: str, filled: int, truth: dict[str, Any], line: dict[str, Any] | None) -> None:
        what = "FILLED" if truth["filled"] == truth["quantity"] else "CANCELLED" if truth["final"] else "open"
        if (state, filled) != (what, truth["filled"]):
            self._found(f"order {order_id} is {state} with {filled}, at its broker {truth['state']} with {truth['filled']}")
        if line is None:
            if what != "FILLED":
                self._found(f"order {order_id} was missed: {truth['state']} at its broker")
        elif line["result"] not in ({what, "ALREADY_ENDED"} if what == "FILLED" else {what}):
            self._found(f"order {order_id}: its line is told {line['result']}, its broker has {truth['state']}")

    def _rates(self) -> None:
        result = self.result
        ((result.calls, result.asked_twice),) = self._rows(
            "select count(*), (select count(*) from (select from attempts where kind = 'CANCEL' group by order_id"
            " having count(*) > 1) twice) from attempts where kind = 'CANCEL'"
        )
        for attribute, span in (("most_in_a_second", "second"), ("most_in_a_minute", "minute")):
            rows = self._rows(
                "select broker, max(calls) from (select broker, count(*) as calls from attempts where kind = 'CANCEL'"
                " group by broker, account_id, date_trunc(%s, started_at)) counted group by broker",
                span,
            )
            setattr(result, attribute, dict(rows))

    def _lines(self, intent_id: str) -> Iterator[dict[str, Any]]:
        """Every line of the intent, page by page, as a client gets them."""
        after: str | None = None
        while True:
            asked = {"limit": 200} | ({"after": after} if after else {})
            answer = self._client.get(f"/v2/intents/{intent_id}", params=asked)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            yield from page["changes"]
            after = page["next"]
            if after is None:
                return

    def _rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self._record.execute(sql, parameters).fetchall()

    def _found(self, violation: str) -> None:
        self._told(f"  VIOLATION: {violation}")
        self.result.violations.append(violation)


def run(root: Path, *, orders: int, accounts: int, seed: str, told: Told, fast: bool = False, keep: bool = False, within_s: float) -> Result:
    """A job on a stack of its own; its folder stays where something was found."""
    with JobBed(root, accounts=accounts, seed=seed, fast=fast, keep=keep) as bed:
        told(f"seed {seed}: {orders} orders in {len(bed.accounts)} accounts on {bed.stack.base_url}")
        result = Job(bed, orders, told).run(within_s=within_s)
        if not result.is_sound:
            bed.keep()
        return result


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.cancel_job", description=__doc__)
    parser.add_argument("--orders", type=int, default=ORDERS)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS, help="an even number, half of them at each broker")
    parser.add_argument("--seed", default="")
    parser.add_argument("--root", type=Path, default=ROOT.with_name(".run-chaos-job"))
    parser.add_argument("--within", type=float, default=1_800.0, help="seconds for placing, and for cancelling")
    parser.add_argument("--keep", action="store_true", help="leave the run folder with its logs")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)

    def say(line: str) -> None:
        print(line, file=sys.stderr if asked.json else sys.stdout, flush=True)

    try:
        with handling_interrupts():
            result = run(
                asked.root.resolve(),
                orders=asked.orders,
                accounts=max(4, asked.accounts),
                seed=asked.seed or secrets.token_hex(4),
                told=say,
                keep=asked.keep,
                within_s=asked.within,
            )
    except Interrupted:
        say("interrupted")
        return 130
    except ProcessFailed as error:
        print(f"could not start: {error}", file=sys.stderr)
        return 1
    for name, value in asdict(result).items():
        say(f"  {name:<18} {value}")
    if asked.json:
        print(json.dumps(asdict(result), indent=2))
    return 0 if result.is_sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
