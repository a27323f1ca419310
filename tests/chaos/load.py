"""Seeded load over HTTP: intents with keys, each sent again with its key until its answer is there."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from typing import Any

import httpx2

from tests.chaos.changing import Changes

ACCOUNTS = ("UP0001", "UP0002", "ZR0001", "ZR0002")
FILLS: dict[str, Any] = {
    "instrument": "NSE:INFY",
    "side": "BUY",
    "quantity": 1,
    "product": "CNC",
    "orderType": "LIMIT",
    "price": "1200.00",
}
RESTS = FILLS | {"instrument": "NSE:SBIN", "price": "975.00"}
REFUSED = FILLS | {"price": "9999.00"}  # outside the day's band: rejected by a stage
RESTING, REFUSED_SHARE, UNNAMED, REPEATED = 0.15, 0.02, 0.15, 0.15


class Load:
    """Clients that place, and change what they placed. What they were answered is kept: key → intent ids, one of which there may be."""

    def __init__(self, url: str, key: str, seed: str, *, per_s: float, clients: int = 2) -> None:
        self._url, self._key, self._seed, self._gap_s = url, key, seed, clients / per_s
        self.acknowledged: dict[str, list[str]] = defaultdict(list)
        self.asked = self.lines = self.unanswered = self.replayed = 0
        self.worst_s = 0.0  # from the first try of a key to its answer
        self.wrong: list[tuple[str, str]] = []  # key, and what was wrong with its answer
        self._lock = threading.Lock()
        self._stopping, self._going_on = threading.Event(), threading.Event()
        self._going_on.set()
        self.changes = Changes(self._client, self._ask)
        self._bursts = 0
        self._burst_threads: list[threading.Thread] = []
        self._threads = [
            threading.Thread(target=self._place_for_ever, args=(number,), daemon=True) for number in range(clients)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def burst(self, lines: int) -> None:
        """So many lines for each account at once, for what dies next to have something in its hands."""
        self._bursts += 1
        chance = random.Random(f"{self._seed} burst {self._bursts}")
        for account in ACCOUNTS:
            orders = [_line(chance, account) for _ in range(lines)]
            name = f"chaos-{self._seed}-burst-{self._bursts:05}-{account}"
            thread = threading.Thread(target=self._place_once, args=(name, orders, chance.random()), daemon=True)
            thread.start()
            self._burst_threads.append(thread)
        self._burst_threads = [thread for thread in self._burst_threads if thread.is_alive()]

    def rest(self) -> None:
        """No new intents until `go_on`; then the same ones as without a rest."""
        self._going_on.clear()

    def go_on(self) -> None:
        self._going_on.set()

    def stop(self, within_s: float = 120.0) -> None:
        """No new intents; those without an answer are asked for until they have one."""
        self._stopping.set()
        self.go_on()
        deadline = time.monotonic() + within_s
        for thread in (*self._threads, *self._burst_threads):
            thread.join(max(0.1, deadline - time.monotonic()))
        self.changes.stop(deadline)

    def _client(self) -> httpx2.Client:
        return httpx2.Client(
            base_url=self._url, headers={"Authorization": f"Bearer {self._key}"}, timeout=10.0, trust_env=False
        )

    def _place_once(self, key: str, orders: list[dict[str, Any]], repeat: float) -> None:
        with self._client() as client:
            self._place(client, key, orders, repeat)

    def _place_for_ever(self, number: int) -> None:
        chance = random.Random(f"{self._seed} client {number}")
        client, count = self._client(), 0
        while not self._stopping.wait(chance.expovariate(1 / self._gap_s)):
            self._going_on.wait()
            count += 1
            account = chance.choice(ACCOUNTS)
            orders = [_line(chance, account) for _ in range(chance.choice((1, 1, 1, 2, 3)))]
            self._place(client, f"chaos-{self._seed}-client-{number}-{count:05}", orders, chance.random())
        client.close()

    def _place(self, client: httpx2.Client, key: str, orders: list[dict[str, Any]], repeat: float) -> None:
        body = {"orders": [{**line, "correlationId": f"c{number}"} for number, line in enumerate(orders)]}
        with self._lock:
            self.asked += 1
            self.lines += len(orders)
        answer = self._ask(client, key, "POST", "/v2/orders/multi", body, {}, repeat=repeat)
        if answer is not None and answer.status_code == 202:
            self.changes.follow(key, answer.json()["orders"], rests=[line["price"] == RESTS["price"] for line in orders])

    def _ask(
        self,
        client: httpx2.Client,
        key: str,
        method: str,
        path: str,
        body: Any,
        headers: dict[str, str],
        *,
        repeat: float = 1.0,
    ) -> httpx2.Response | None:
        """Send a request with its key until it is answered, and some once more; what it was answered with is kept."""
        began, deadline = time.monotonic(), time.monotonic() + 180
        wanted = 2 if repeat < REPEATED else 1
        last: httpx2.Response | None = None
        while wanted and time.monotonic() < deadline:
            try:
                answer = client.request(method, path, json=body, headers={"Idempotency-Key": key, **headers})
            except httpx2.TransportError:
                self._count_unanswered()
                time.sleep(0.2)
                continue
            if answer.status_code == 202:
                with self._lock:
                    self.acknowledged[key].append(answer.json()["intentId"])
                    self.replayed += answer.headers.get("Idempotency-Replayed") == "true"
                    self.worst_s = max(self.worst_s, time.monotonic() - began)
                wanted, last = wanted - 1, answer
            elif answer.status_code in (429, 500, 502, 503, 504):
                self._count_unanswered()
                time.sleep(0.2)
            elif answer.status_code == 409 and method == "PUT":
                self.changes.asked["modify too late"] += 1  # it was filled, or is being cancelled
                return answer
            else:
                with self._lock:
                    self.wrong.append((key, f"was answered with {answer.status_code} {answer.text}"))
                return answer
        if key not in self.acknowledged:
            with self._lock:
                self.wrong.append((key, "never got an answer"))
        return last

    def _count_unanswered(self) -> None:
        with self._lock:
            self.unanswered += 1


def _line(chance: random.Random, account: str) -> dict[str, Any]:
    drawn = chance.random()
    line = RESTS if drawn < RESTING else REFUSED if drawn < RESTING + REFUSED_SHARE else FILLS
    return dict(line) if chance.random() < UNNAMED else {**line, "account": account}
