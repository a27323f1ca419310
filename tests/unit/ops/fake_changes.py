"""A coordinator that isn't one, and that modifies and cancels: each look at an intent settles the next of its lines."""

from __future__ import annotations

import json
import uuid
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from fake_coordinator import AT, KEY, FakeCoordinator, Json, answer, problem

ENDED = {"FILLED", "CANCELLED", "REJECTED", "EXPIRED"}
CANCEL = "/v2/orders/multi/cancel"


class FakeChanges(FakeCoordinator):
    """`results` says what comes of a change by its order's correlation id: None for ever unknown. CANCELLED or MODIFIED
    where nothing is said. `writes` are all requests that came: path, headers, body.
    """

    def __init__(self) -> None:
        super().__init__()
        self.results: dict[str, str | None] = {}
        self.writes: list[tuple[str, Json, Any]] = []
        self.changed: dict[str, Json] = {}

    def orders(self) -> list[Json]:
        return [order for intent in self.intents.values() for order in intent["orders"]]

    def put(self, http: BaseHTTPRequestHandler) -> None:
        body = self._taken(http)
        order = next(order for order in self.orders() if order["orderId"] == http.path.rpartition("/")[2])
        version = int(http.headers["If-Match"].strip('"'))
        if version != order["version"]:
            stale = f"order {order['orderId']} is at version {order['version']}, not {version}"
            answer(http, 409, problem(409, "STALE_VERSION", stale) | {"version": order["version"], "current": order})
            return
        intent = self._begun("MODIFY", [self._line(0, order, "MODIFY", wanted=body)], [])
        links = {"intent": f"/v2/intents/{intent['intentId']}", "order": f"/v2/orders/{order['orderId']}"}
        document = {"intentId": intent["intentId"], "orderId": order["orderId"], "status": "RUNNING", "links": links}
        answer(http, 202, document)

    def post(self, http: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(http.path)
        if not parts.path.startswith(CANCEL):
            super().post(http)
            return
        body = self._taken(http)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, tuple):
            answer(http, *(fault[0], fault[2], fault[1]))
            return
        meant = self._meant(body)
        if parts.path.endswith("/preview"):
            live = [order for order in meant if order["state"] not in ENDED]
            answer(http, 200, {"matched": len(live), "orders": live, "next": None})
            return
        key = http.headers["Idempotency-Key"]
        replayed = key in self.by_key
        if not replayed:
            lines = [self._line(line, order, "CANCEL", wanted=body) for line, order in enumerate(meant)]
            self.by_key[key] = self._begun("CANCEL", lines, meant)["intentId"]
        if fault == "drop":
            http.close_connection = True
            return
        intent = self.changed[self.by_key[key]]
        document = {"intentId": intent["intentId"], "status": "RUNNING", "matched": len(meant), "answered": []}
        links = {"intent": f"/v2/intents/{intent['intentId']}"}
        answer(http, 202, {**document, "links": links}, {"Idempotency-Replayed": "true"} if replayed else {})

    def _taken(self, http: BaseHTTPRequestHandler) -> Any:
        body = json.loads(http.rfile.read(int(http.headers["Content-Length"])))
        assert http.headers["Authorization"] == f"Bearer {KEY}"
        self.writes.append((urlsplit(http.path).path, dict(http.headers), body))
        return body

    def _meant(self, body: Json) -> list[Json]:
        if "orderIds" in body:
            return [order for order in self.orders() if order["orderId"] in body["orderIds"]]
        wanted = {name: value for name, value in body["filter"].items() if name not in ("all", "intentId")}
        found = [order for order in self.orders() if all(order.get(name) == value for name, value in wanted.items())]
        return [order for order in found if order["state"] not in ENDED]

    def _line(self, line: int, order: Json, kind: str, *, wanted: Json) -> Json:
        shown = ("orderId", "correlationId", "instrument", "side", "quantity", "broker", "account", "state", "version")
        return {
            **{name: order.get(name) for name in shown},
            "line": line,
            "kind": kind,
            "wanted": wanted,
            "result": None,
            "told": None,
            "toldDetail": None,
            "reason": None,
            "askedAt": AT,
            "settledAt": None,
            "work": None,
            "filledQuantity": order["filledQuantity"],
            "averagePrice": order["averagePrice"],
        }

    def _begun(self, kind: str, lines: list[Json], _meant: list[Json]) -> Json:
        intent_id = str(uuid.uuid4())
        self.changed[intent_id] = {"intentId": intent_id, "kind": kind, "acceptedAt": AT, "lines": lines}
        return self.changed[intent_id]

    # -- reads

    def _read(self, path: str, query: dict[str, str]) -> tuple[int, Json]:
        intent = self.changed.get(path.rpartition("/")[2]) if path.startswith("/v2/intents/") else None
        if intent is None:
            return super()._read(path, query)
        self._settle_one(intent)
        limit, after = int(query.get("limit", 100)), int(query.get("after", -1))
        lines = [line for line in intent["lines"] if line["line"] > after]
        results = [line["result"] for line in intent["lines"]]
        return 200, {
            **{name: intent[name] for name in ("intentId", "kind", "acceptedAt")},
            "status": _status(intent["kind"], results),
            "settled": sum(result is not None for result in results),
            "total": len(results),
            "counts": {result or "NOT_KNOWN": results.count(result) for result in results},
            "changes": lines[:limit],
            "next": str(lines[limit - 1]["line"]) if len(lines) > limit else None,
        }

    def _settle_one(self, intent: Json) -> None:
        done = "CANCELLED" if intent["kind"] == "CANCEL" else "MODIFIED"
        for line in intent["lines"]:
            result = self.results.get(line["correlationId"], done)
            if line["result"] is None and result is not None:
                line["result"], line["settledAt"] = result, AT
                if result in ("CANCELLED", "FILLED"):
                    line["state"] = result
                if result == "REFUSED":
                    line["reason"] = {"code": "BROKER_REFUSED", "text": "upstox: not now (UDAPI1)"}
                order = next(order for order in self.orders() if order["orderId"] == line["orderId"])
                order["state"] = line["state"]
                if result == "MODIFIED":
                    order.update({**line["wanted"], "version": order["version"] + 1})
                return


def _status(kind: str, results: list[str | None]) -> str:
    if None in results:
        return "RUNNING"
    done = results.count("CANCELLED" if kind == "CANCEL" else "MODIFIED")
    return "DONE" if done == len(results) else "PARTIAL" if done else "NONE"
