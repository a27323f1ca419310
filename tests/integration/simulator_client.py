"""Speaks plain HTTP to a simulator, with the standard library only."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import urlencode

from brokers.simulator.server import SimulatorServer
from domain.reference import cash_instruments

INFY = next(instrument for instrument in cash_instruments() if instrument.key == "NSE:INFY")
PRICE = INFY.close
RESTING = PRICE - 100 * INFY.tick
FAR_BELOW = PRICE - 400 * INFY.tick  # 3.6 %, where prices wander by 1.5 % at the most
UPSTOX_LINE = {
    "quantity": 10,
    "product": "I",
    "validity": "DAY",
    "price": 0,
    "instrument_token": f"NSE_EQ|{INFY.isin}",
    "order_type": "MARKET",
    "transaction_type": "BUY",
    "disclosed_quantity": 0,
    "trigger_price": 0,
    "is_amo": False,
    "slice": False,
}
ZERODHA_FORM = {
    "tradingsymbol": "INFY",
    "exchange": "NSE",
    "transaction_type": "BUY",
    "order_type": "MARKET",
    "market_protection": "-1",
    "quantity": "10",
    "product": "MIS",
    "validity": "DAY",
}


class Client:
    def __init__(self, simulator: SimulatorServer) -> None:
        self.simulator = simulator
        self.control = simulator.control

    def upstox(self, method: str, path: str, body: Any = None, *, token: str = "sim-upstox-token") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return self._call("upstox", method, path, None if body is None else json.dumps(body), headers)

    def zerodha(
        self, method: str, path: str, form: dict[str, str] | None = None, *, token: str = "sim-zerodha-token"
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"token sim-zerodha-key:{token}", "X-Kite-Version": "3"}
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        return self._call("zerodha", method, path, None if form is None else urlencode(form), headers)

    def place_upstox(self, **fields: Any) -> tuple[int, Any]:
        return self.upstox("POST", "/v3/order/place", UPSTOX_LINE | fields)

    def place_zerodha(self, **fields: str) -> tuple[int, Any]:
        return self.zerodha("POST", "/orders/regular", ZERODHA_FORM | fields)

    def tags(self) -> list[str]:
        """Of every order the exchange took: the judge's own book."""
        return [row["tag"] for row in self.control("GET", "/orders")]

    def judged(self, tag: str) -> Any:
        (row,) = self.control("GET", f"/orders?tag={tag}")
        return row

    def _call(self, facade: str, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[int, Any]:
        """The status, and the body: parsed where it is JSON, else as bytes."""
        connection = http.client.HTTPConnection(self.simulator.urls[facade].removeprefix("http://"), timeout=5)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        try:
            return response.status, json.loads(content)
        except ValueError:
            return response.status, content


@contextmanager
def a_client(**settings: Any) -> Iterator[Client]:
    """On a fresh simulator whose INFY stands still and whose limits are off, unless the settings say otherwise."""
    with SimulatorServer() as simulator:
        simulator.control("PUT", "/settings", {"rate_limits": False, "partial_percent": 0} | settings)
        simulator.control("PUT", "/prices/NSE:INFY", {"price": str(PRICE)})
        yield Client(simulator)


def until(what: Callable[[], Any], *, within_s: float = 5) -> Any:
    """What it gives as soon as that is true."""
    deadline = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)
    return found


@contextmanager
def a_listener() -> Iterator[tuple[str, list[Any]]]:
    """A URL, and the JSON that is posted to it."""
    heard: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/postback", heard
        finally:
            server.shutdown()
            thread.join()
