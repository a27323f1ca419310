"""A coordinator that isn't one: answers REST as docs/rest.md says, each look at an intent moving its orders one step.

Run as a program it serves until it is ended, for looking at `trader` by hand:

    python tests/unit/ops/fake_coordinator.py [seconds a step takes]
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]
Frame = Json  # what an order is from this step on

KEY = "fake_key_of_the_trader"
SETTLED = {"FILLED", "CANCELLED", "REJECTED", "EXPIRED", "OPEN", "TRIGGER_PENDING", "PARTIALLY_FILLED"}
AT = "2026-11-23T04:45:02.120000Z"


def at_stage(stage: str, word: str = "READY", **more: Any) -> Frame:
    work = {"stage": stage, "state": word, "attempts": 0, "notBefore": None, "error": None}
    return {"state": "RECEIVED", "work": work, **more}


def intake() -> list[Frame]:
    return [at_stage(stage) for stage in ("validate", "risk", "margin", "route")]


def fills(order: Json) -> list[Frame]:
    broker = order.get("broker") or "UPSTOX"
    sent = at_stage(f"dispatch.{broker.lower()}", "SENDING", broker=broker, account=f"{broker.lower()}-paper")
    done = {"stage": "notify", "state": "DONE", "attempts": 0, "notBefore": None, "error": None}
    filled = {
        "filledQuantity": order["quantity"],
        "pendingQuantity": 0,
        "averagePrice": order.get("price") or "1512.35",
    }
    return [
        *intake(),
        {**sent, "state": "SENDING"},
        {**at_stage("persist"), "state": "SUBMITTED", "brokerOrderId": "251123000123"},
        {"state": "FILLED", "work": done, **filled},
    ]


def rests(order: Json) -> list[Frame]:
    return [*fills(order)[:-1], {"state": "OPEN", "work": None}]


def fills_in_parts(order: Json) -> list[Frame]:
    *before, last = fills(order)
    return [*before, {**last, "state": "PARTIALLY_FILLED", "filledQuantity": 1}, last]


def is_rejected(order: Json) -> list[Frame]:
    text = "order value ₹15,12,500.00 is over ₹5,00,000.00"
    return [*intake()[:2], {"state": "REJECTED", "reason": {"code": "RISK_LIMIT", "text": text}, "work": None}]


def becomes_unknown(order: Json) -> list[Frame]:
    return [*fills(order)[:-2], {**at_stage("dispatch.upstox", "UNKNOWN"), "state": "UNKNOWN"}]


def gets_stuck(order: Json) -> list[Frame]:
    stuck = at_stage("margin", "STUCK")
    stuck["work"]["error"] = "no margin rule for this product"
    return [*intake()[:2], stuck]


class FakeCoordinator:
    """`fates` gives an order's steps by its correlation id; `faults` are used up by the next POSTs, oldest first.

    A fault is "drop" (the request is taken, the answer never comes), "drop before" (nothing is taken), or
    (status, headers, document).
    """

    def __init__(self, *, step_s: float = 0.0) -> None:
        self.fates: dict[str, Callable[[Json], list[Frame]]] = {}
        self.faults: list[Any] = []
        self.drop_gets = 0
        self.posts: list[Json] = []
        self.intents: dict[str, Json] = {}
        self.by_key: dict[str, str] = {}
        self.frames: dict[str, list[Frame]] = {}
        self.events: dict[str, list[Json]] = {}
        self.calls: dict[str, list[Json]] = {}
        self.trades: dict[str, list[Json]] = {}
        self.step_s, self._last_step = step_s, time.monotonic()
        self.lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                fake.post(self)

            def do_PUT(self) -> None:
                fake.put(self)

            def do_GET(self) -> None:
                fake.get(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> FakeCoordinator:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # -- writes

    def put(self, http: BaseHTTPRequestHandler) -> None:
        answer(http, 405, problem(405, "METHOD_NOT_ALLOWED", "`Allow` names this path's methods"))

    def post(self, http: BaseHTTPRequestHandler) -> None:
        request = json.loads(http.rfile.read(int(http.headers["Content-Length"])))
        key = http.headers.get("Idempotency-Key", "")
        fault = self.faults.pop(0) if self.faults else None
        self.posts.append({"key": key, "request": request})
        if fault == "drop before":
            http.close_connection = True
            return
        if isinstance(fault, tuple):
            status, headers, document = fault
            answer(http, status, document, headers)
            return
        if http.headers.get("Authorization") != f"Bearer {KEY}":
            answer(http, 401, problem(401, "NOT_AUTHENTICATED", "the key isn't known"))
            return
        faults = faults_of(request)
        if faults:
            document = {**problem(422, "MALFORMED", "the request is malformed"), "errors": faults}
            answer(http, 422, document)
            return
        with self.lock:
            replayed = key in self.by_key
            intent_id = self.by_key.get(key) or self._accept(request)
            self.by_key[key] = intent_id
        if fault == "drop":
            http.close_connection = True
            return
        intent = self.intents[intent_id]
        lines = [{name: order[name] for name in ("line", "correlationId", "orderId")} for order in intent["orders"]]
        accepted = {
            "intentId": intent_id,
            "status": "RUNNING",
            "orders": [{**line, "state": "RECEIVED"} for line in lines],
            "links": {"intent": f"/v2/intents/{intent_id}"},
        }
        answer(http, 202, accepted, {"Idempotency-Replayed": "true"} if replayed else {})

    def _accept(self, request: Json) -> str:
        intent_id = str(uuid.uuid4())
        orders = []
        for line, asked in enumerate(request["orders"]):
            order_id = str(uuid.uuid4())
            order = {**blank_order(), **asked, "orderId": order_id, "intentId": intent_id, "line": line}
            order["pendingQuantity"] = order["quantity"]
            broker = order.pop("broker", None)
            order["broker"] = None
            self.frames[order_id] = self.fates.get(order["correlationId"], fills)({**order, "broker": broker})
            orders.append(order)
        self.intents[intent_id] = {"intentId": intent_id, "kind": "PLACE", "acceptedAt": AT, "orders": orders}
        return intent_id

    # -- reads

    def get(self, http: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(http.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if self.drop_gets:
            self.drop_gets -= 1
            http.close_connection = True
            return
        with self.lock:
            status, document = self._read(parts.path, query)
        answer(http, status, document)

    def _read(self, path: str, query: dict[str, str]) -> tuple[int, Json]:
        if path == "/version":
            return 200, {"version": "0.1.0", "commit": "abcdef0"}
        if path == "/v2/brokers":
            return 200, {"brokers": BROKERS}
        if path == "/v2/intents":
            return 200, {"intents": [self._head(one) for one in reversed(self.intents.values())], "next": None}
        if path == "/v2/orders":
            orders = [order for intent in reversed(self.intents.values()) for order in intent["orders"]]
            wanted = {name: query[name] for name in ("state", "broker", "account", "instrument") if name in query}
            found = [order for order in orders if all(order[name] == value for name, value in wanted.items())]
            return 200, page("orders", found, query)
        if path == "/v2/trades":
            return 200, page("trades", [trade for trades in self.trades.values() for trade in trades], query)
        found = re.fullmatch(r"/v2/(intents|orders)/([^/]+)(/history|/trades)?", path)
        if found is None:
            return 404, problem(404, "NOT_FOUND", f"there is nothing at {path}")
        noun, wanted_id, more = found.groups()
        if noun == "intents" and wanted_id in self.intents:
            self._step(wanted_id)
            intent = self.intents[wanted_id]
            return 200, {**self._head(intent), "orders": intent["orders"]}
        for intent in self.intents.values():
            for order in intent["orders"]:
                if order["orderId"] == wanted_id and noun == "orders":
                    return 200, self._order(order, more)
        return 404, problem(404, "NOT_FOUND", f"no {noun[:-1]} {wanted_id} that this key may see")

    def _order(self, order: Json, more: str | None) -> Json:
        if more == "/history":
            events, calls = self.events.get(order["orderId"], []), self.calls.get(order["orderId"], [])
            return {"orderId": order["orderId"], "events": events, "calls": calls}
        if more == "/trades":
            return {"trades": self.trades.get(order["orderId"], []), "next": None}
        return order

    def _step(self, intent_id: str) -> None:
        if time.monotonic() < self._last_step + self.step_s:
            return
        self._last_step = time.monotonic()
        for order in self.intents[intent_id]["orders"]:
            frames = self.frames[order["orderId"]]
            if frames:
                order.update(frames.pop(0))

    def _head(self, intent: Json) -> Json:
        states = [order["state"] for order in intent["orders"]]
        settled = sum(state in SETTLED for state in states)
        rejected = states.count("REJECTED")
        status = "RUNNING"
        if settled == len(states):
            status = "DONE" if not rejected else "REJECTED" if rejected == settled else "PARTIAL"
        head = {name: intent[name] for name in ("intentId", "kind", "acceptedAt")}
        return {**head, "status": status, "settled": settled, "total": len(states)}


def blank_order() -> Json:
    return {
        "state": "RECEIVED",
        "version": 1,
        "validity": "DAY",
        "price": None,
        "triggerPrice": None,
        "account": None,
        "strategy": None,
        "tag": None,
        "brokerTag": "OC0A1B2C3D4E5F6G7H8",
        "brokerOrderId": None,
        "filledQuantity": 0,
        "averagePrice": None,
        "reason": None,
        "work": None,
        "acceptedAt": AT,
        "updatedAt": AT,
        "sendBefore": "2026-11-23T04:47:02.120000Z",
    }


def faults_of(request: Json) -> list[Json]:
    return [
        {"pointer": f"/orders/{line}/quantity", "code": "NOT_POSITIVE", "detail": "must be positive"}
        for line, order in enumerate(request["orders"])
        if order.get("quantity", 0) <= 0
    ]


def problem(status: int, code: str, detail: str) -> Json:
    kind = f"/problems/{code.lower().replace('_', '-')}"
    return {"type": kind, "title": code, "status": status, "code": code, "detail": detail, "requestId": "req-1"}


def page(noun: str, rows: list[Json], query: dict[str, str]) -> Json:
    start, limit = int(query.get("after", 0)), int(query.get("limit", 50))
    more = start + limit < len(rows)
    return {noun: rows[start : start + limit], "next": str(start + limit) if more else None}


def answer(http: BaseHTTPRequestHandler, status: int, document: Json, headers: dict[str, str] | None = None) -> None:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    http.send_response(status)
    http.send_header("Content-Type", "application/json" if status < 400 else "application/problem+json")
    http.send_header("Content-Length", str(len(body)))
    for name, value in (headers or {}).items():
        http.send_header(name, value)
    http.end_headers()
    http.wfile.write(body)


BROKERS = [
    {
        "broker": "UPSTOX",
        "circuit": "CLOSED",
        "queued": 2,
        "multiPlace": 25,
        "accounts": [
            {
                "account": "upstox-paper",
                "calendar": "SIM",
                "session": "ALIVE",
                "openOrders": 3,
                "blocked": "151250.00",
                "limit": "10000000.00",
            }
        ],
    },
    {
        "broker": "ZERODHA",
        "circuit": "OPEN",
        "queued": 0,
        "multiPlace": 1,
        "accounts": [
            {
                "account": "zerodha-paper",
                "calendar": "SIM",
                "session": "DEAD",
                "openOrders": 0,
                "blocked": "0.00",
                "limit": "10000000.00",
            }
        ],
    },
]


if __name__ == "__main__":
    import sys

    fake = FakeCoordinator(step_s=float(sys.argv[1]) if len(sys.argv) > 1 else 0.4).start()
    fake.fates = {"rests": rests, "rejected": is_rejected, "unknown": becomes_unknown, "stuck": gets_stuck}
    print(f"export TRADER_URL={fake.url} TRADER_KEY={KEY}", flush=True)
    threading.Event().wait()
