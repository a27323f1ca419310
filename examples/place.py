"""Places the orders of a file exactly once, with nothing but Python: python examples/place.py [orders.json]

TRADER_URL and TRADER_KEY say where and as whom; `make run` prints both. KEY is the idempotency key: the same key with
the same file never places twice, so a run whose answer was lost is repeated with the KEY it printed.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

TRIES = 5
SETTLED_WITHIN_S = 60


def main() -> int:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("orders.json")
    key = os.environ.get("KEY") or str(uuid.uuid4())
    print(f"idempotency key: {key}", file=sys.stderr)
    accepted = ask("POST", "/v2/orders/multi", file.read_bytes(), {"Idempotency-Key": key})
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while True:
        intent = ask("GET", f"/v2/intents/{accepted['intentId']}?wait=10")
        if intent["status"] != "RUNNING" or time.monotonic() > deadline:
            break
    for order in intent["orders"]:
        why = f"{order['reason']['code']}: {order['reason']['text']}" if order["reason"] else ""
        print(f"{order['correlationId']:<20} {order['state']:<10} {order['filledQuantity']:>6} {why}")
    print(f"intent {intent['intentId']}: {intent['status']}")
    return 0 if intent["status"] == "DONE" else 1


def ask(method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> dict:
    """One request; repeated when its answer is lost or the coordinator is busy, which the idempotency key makes safe."""
    request = urllib.request.Request(os.environ["TRADER_URL"] + path, body, headers or {}, method=method)
    request.add_header("Authorization", f"Bearer {os.environ['TRADER_KEY']}")
    request.add_header("Content-Type", "application/json")
    for left in reversed(range(TRIES)):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if (error.code < 500 and error.code != 429) or not left:
                sys.exit(f"{method} {path} was refused: {error.code} {error.read().decode(errors='replace')}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not left:
                sys.exit(f"{method} {path} has no answer, and nobody knows yet whether it was taken: {error}")
        time.sleep(2 ** (TRIES - left - 1) * 0.3)
    raise AssertionError("unreachable")


if __name__ == "__main__":
    sys.exit(main())
