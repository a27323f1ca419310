"""A load's requests as bytes, made once, and where an answer ends: as little work per request as can be."""

from __future__ import annotations

import json

from ops.bench.plan import Plan


def request_parts(plan: Plan) -> list[tuple[bytes, bytes]]:
    """For each account what goes before and after the Idempotency-Key: all of a request but its key is made once."""
    parts = []
    for turn, account in enumerate(plan.accounts):
        orders = [
            {
                "correlationId": f"line-{line}",
                "instrument": instrument,
                "side": "BUY",
                "quantity": 1,
                "product": "CNC",
                "orderType": "LIMIT",
                "price": price,
                "validity": "DAY",
                "broker": plan.broker,
                "account": account,
            }
            for line in range(plan.lines)
            for instrument, price in [plan.instruments[(turn + line) % len(plan.instruments)]]
        ]
        body = json.dumps({"orders": orders}, separators=(",", ":")).encode()
        head = (
            f"POST /v2/orders/multi HTTP/1.1\r\nHost: {plan.host}:{plan.port}\r\n"
            f"Authorization: Bearer {plan.api_key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nIdempotency-Key: "
        ).encode()
        parts.append((head, b"\r\n\r\n" + body))
    return parts


def answer_length(data: bytes) -> int | None:
    """How many bytes the answer at the start of `data` takes, None while its head or its chunks are incomplete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    at = data.find(b"ontent-", 0, end)
    while at >= 0:
        if data[at + 7 : at + 15].lower() == b"length: ":
            stop = data.find(b"\r\n", at)
            return end + 4 + int(data[at + 15 : stop])
        at = data.find(b"ontent-", at + 7, end)
    done = data.find(b"0\r\n\r\n", end + 2)  # no length: chunked
    return None if done < 0 else done + 5
