"""Changes beside the load: orders that were just placed are cancelled and modified, each request with a key of its own."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx2

CANCEL_AT_ONCE, CANCEL_LATER, MODIFY, MODIFY_THEN_CANCEL = 0.10, 0.08, 0.5, 0.4
RESTS_FOR_S = 15.0  # an order that a broker hasn't confirmed by then is not modified
OVER = frozenset({"FILLED", "CANCELLED", "REJECTED", "EXPIRED"})
LIVE = frozenset({"OPEN", "TRIGGER_PENDING", "PARTIALLY_FILLED"})
TERMS: tuple[dict[str, Any], ...] = ({"price": "974.50"}, {"price": "976.00", "quantity": 2}, {"price": "1060.00"})  # the last one fills

Ask = Callable[[httpx2.Client, str, str, str, Any, dict[str, str]], httpx2.Response | None]


class Changes:
    """`ask` sends a request until it is answered, and keeps which intent it was answered with."""

    def __init__(self, client: Callable[[], httpx2.Client], ask: Ask) -> None:
        self._client, self._ask = client, ask
        self.asked: Counter[str] = Counter()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def follow(self, key: str, placed: list[dict[str, Any]], *, rests: list[bool]) -> None:
        """Draw what becomes of each order of an intent, from its key, and see to it on threads of their own."""
        chance = random.Random(key)
        for order, is_resting in zip(placed, rests, strict=True):
            drawn, delay_s = chance.random(), chance.uniform(0.1, 2.0)
            name = f"{key}-{order['line']}"
            if drawn < CANCEL_AT_ONCE:
                self._start(self._cancel, name, order["orderId"], 0.0)
            elif drawn < CANCEL_AT_ONCE + CANCEL_LATER:
                self._start(self._cancel, name, order["orderId"], delay_s)
            elif is_resting and drawn < CANCEL_AT_ONCE + CANCEL_LATER + MODIFY:
                cancels = chance.random() < MODIFY_THEN_CANCEL
                self._start(self._modify, name, order["orderId"], delay_s, chance.choice(TERMS), cancels)

    def stop(self, deadline: float) -> None:
        for thread in tuple(self._threads):
            thread.join(max(0.1, deadline - time.monotonic()))

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        with self._lock:
            self._threads = [known for known in self._threads if known.is_alive()]
            self._threads.append(thread)
        thread.start()

    def _cancel(self, name: str, order_id: str, delay_s: float) -> None:
        time.sleep(delay_s)
        with self._client() as client:
            self.asked["cancel"] += 1
            self._ask(client, f"{name}-cancel", "POST", "/v2/orders/multi/cancel", {"orderIds": [order_id]}, {})

    def _modify(self, name: str, order_id: str, delay_s: float, terms: dict[str, Any], cancels: bool) -> None:
        with self._client() as client:
            version = self._version_once_it_rests(client, order_id)
            if version is None:
                return
            self.asked["modify"] += 1
            self._ask(client, f"{name}-modify", "PUT", f"/v3/orders/{order_id}", terms, {"If-Match": str(version)})
        if cancels:
            self._cancel(name, order_id, delay_s)

    def _version_once_it_rests(self, client: httpx2.Client, order_id: str) -> int | None:
        deadline = time.monotonic() + RESTS_FOR_S
        while time.monotonic() < deadline:
            try:
                answer = client.get(f"/v2/orders/{order_id}")
            except httpx2.TransportError:
                time.sleep(0.3)
                continue
            order = answer.json() if answer.status_code == 200 else {}
            if order.get("state") in OVER:
                return None
            if order.get("state") in LIVE:
                return int(order["version"])
            time.sleep(0.3)
        return None
