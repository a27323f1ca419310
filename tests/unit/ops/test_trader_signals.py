"""`trader order preview` and `trader signal`, against canned answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

STRATEGY = {
    "name": "breakout",
    "path": "/signals/ada/breakout",
    "enabled": True,
    "windowSec": 60,
    "broker": "UPSTOX",
    "account": None,
    "strategy": "breakout",
    "maxUnsentSec": 30,
    "template": {
        "instrument": {"field": "ticker", "prefix": "NSE:"},
        "side": {"field": "action", "map": {"buy": "BUY"}},
        "quantity": {"field": "qty", "default": 1},
        "product": {"value": "MIS"},
    },
    "version": 1,
    "createdAt": "2026-11-26T00:42:29.537615Z",
    "updatedAt": "2026-11-26T00:42:29.537615Z",
}
SIGNALS = {
    "signals": [
        {
            "signalId": "01a2154e-0daa-7596-a156-a0c460dc1d52",
            "at": "2026-11-26T00:42:30.000000Z",
            "status": "SUPPRESSED",
            "intentId": "01a2154e-0c9f-72e8-b9fa-eb862f02b9e9",
            "nonce": None,
            "order": {"instrument": "NSE:INFY", "side": "BUY", "quantity": 10, "product": "MIS", "orderType": "MARKET"},
            "reason": None,
        },
        {
            "signalId": "01a2154e-0f5a-7309-a4e4-2a7e6218562e",
            "at": "2026-11-26T00:42:29.000000Z",
            "status": "REFUSED",
            "intentId": None,
            "nonce": None,
            "order": None,
            "reason": {"code": "MALFORMED", "text": "/qty: quantity: it is missing"},
        },
    ],
    "next": None,
}


def a_line(outcome: str, **more: Any) -> dict[str, Any]:
    known = {
        "line": 0,
        "correlationId": "leg-1",
        "instrument": "NSE:INFY",
        "side": "BUY",
        "quantity": 10,
        "product": "CNC",
        "orderType": "LIMIT",
        "price": "1120.00",
        "triggerPrice": None,
        "outcome": outcome,
        "reason": None,
        "held": None,
        "stages": [{"stage": "validate", "verdict": "PROCEED", "facts": {"tick": "0.10"}}],
        "margin": {"required": "11574.01", "available": "10000000.00", "basis": "delivery"},
        "charges": {"total": "36.90", "lines": {"STT": "11.2"}, "rateCard": "2026-03-01", "assumed": []},
        "broker": "UPSTOX",
        "account": "UP0001",
        "route": [
            {"broker": "UPSTOX", "account": "UP0001", "place": 1, "chosen": True, "why": "the first of the candidates"},
            {"broker": "ZERODHA", "account": "ZR0001", "place": None, "chosen": False, "why": "upstox was named"},
        ],
        "slices": [],
        "calls": [0],
    }
    return {**known, **more}


REFUSED = a_line(
    "REJECTED",
    reason={"code": "RISK_LIMIT", "text": "order value ₹56,00,000.00 is over ₹5,00,000.00"},
    stages=[
        {"stage": "validate", "verdict": "PROCEED", "facts": {}},
        {"stage": "risk", "verdict": "REJECT", "code": "RISK_LIMIT", "reasons": ["order value ₹56,00,000.00 is over"]},
        {"stage": "margin", "verdict": "NOT_REACHED"},
    ],
    margin=None,
    charges=None,
    calls=[],
)
CALL = {
    "number": 0,
    "broker": "UPSTOX",
    "account": "UP0001",
    "lines": [{"line": 0, "quantity": 10, "tag": "OC00000000000000001"}],
    "request": {
        "method": "POST",
        "url": "https://api.upstox.com/v3/order/place",
        "headers": {"Accept": "application/json"},
        "hiddenHeaders": ["Authorization"],
        "body": '{"quantity":10}',
    },
    "refusal": None,
}


class Canned:
    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {}
        self.heard: list[tuple[str, str, Any]] = []
        canned = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                path, length = self.path.partition("?")[0], int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                canned.heard.append((self.command, path, json.loads(body) if body else None))
                status, document = canned.answers.get((self.command, path), (404, {"code": "NOT_FOUND", "detail": path}))
                text = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> Iterator[Canned]:
    canned = Canned()
    thread = threading.Thread(target=canned.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setenv("TRADER_URL", canned.url)
    monkeypatch.setenv("TRADER_KEY", "a key")
    yield canned
    canned.server.shutdown()
    canned.server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("lines", "code"), [([a_line("CLEARED")], 0), ([a_line("CLEARED"), REFUSED], 3), ([REFUSED], 4), ([a_line("WAITING")], 0)]
)
def test_a_preview_is_told_line_by_line_and_exits_as_placing_would(canned, run_trader, orders_file, lines, code):
    shown = {"orders": lines, "calls": [CALL], "notes": ["nothing was sent"]}
    canned.answers["POST", "/v2/orders/preview"] = 200, shown

    ran = run_trader("order", "preview", orders_file({}))

    assert ran.code == code, ran.err
    assert canned.heard[0][2]["orders"][0]["instrument"] == "NSE:INFY"
    assert "POST https://api.upstox.com/v3/order/place" in ran.out
    assert "Authorization: (hidden)" in ran.out
    assert '{"quantity":10}' in ran.out
    assert "nothing was sent" in ran.err
    if lines[0] is REFUSED:
        assert "RISK_LIMIT: order value ₹56,00,000.00" in ran.out
        assert "not asked" in ran.out
    else:
        assert "₹11,574.01 of ₹1,00,00,000.00" in ran.out
        assert "not to      ZERODHA ZR0001: upstox was named" in ran.out


def test_a_preview_as_json_is_the_answer(canned, run_trader, orders_file):
    shown = {"orders": [a_line("CLEARED")], "calls": [CALL], "notes": []}
    canned.answers["POST", "/v2/orders/preview"] = 200, shown

    assert json.loads(run_trader("order", "preview", orders_file({}), "--json").out) == shown


def test_a_strategy_is_set_from_a_file_and_its_secret_shown(canned, run_trader):
    canned.answers["PUT", "/v2/signals/breakout"] = 201, {**STRATEGY, "secret": "sig_x"}
    Path("breakout.json").write_text(json.dumps({"name": "breakout", "template": STRATEGY["template"]}))

    ran = run_trader("signal", "set", "breakout.json")

    assert ran.code == 0, ran.err
    assert canned.heard == [("PUT", "/v2/signals/breakout", {"template": STRATEGY["template"]})]
    assert f"{canned.url}/signals/ada/breakout" in ran.out
    assert "sig_x" in ran.out
    assert "from action, buy → BUY" in ran.out


def test_a_fault_of_a_template_is_told_where_it_stands(canned, run_trader):
    fault = {"pointer": "/template/side/value", "code": "BAD_VALUE", "detail": "one of BUY, SELL is wanted"}
    canned.answers["PUT", "/v2/signals/s"] = 422, {"code": "MALFORMED", "detail": "wrong", "errors": [fault]}
    Path("s.json").write_text('{"name": "s",\n"template": {\n"side": {"value": "LONG"}}}')

    ran = run_trader("signal", "set", "s.json")

    assert ran.code == 1
    assert "s.json:3 template.side.value: one of BUY, SELL is wanted [BAD_VALUE]" in ran.err


@pytest.mark.parametrize("text", ["[]", "{", '{"name": "a b"}', "{}", '{"name": 7}'])
def test_a_file_that_defines_no_strategy_is_a_usage_error(canned, run_trader, text):
    Path("s.json").write_text(text)

    assert run_trader("signal", "set", "s.json").code == 2
    assert canned.heard == []


def test_strategies_and_what_they_received_are_listed(canned, run_trader):
    canned.answers["GET", "/v2/signals"] = 200, {"strategies": [STRATEGY]}
    canned.answers["GET", "/v2/signals/breakout"] = 200, STRATEGY
    canned.answers["GET", "/v2/signals/breakout/received"] = 200, SIGNALS

    assert "/signals/ada/breakout" in run_trader("signal", "list").out
    assert "kept as a hash" in run_trader("signal", "show", "breakout").out
    told = run_trader("signal", "received", "breakout").out
    assert "SUPPRESSED" in told
    assert "BUY 10 NSE:INFY MIS MARKET" in told
    assert "MALFORMED: /qty: quantity: it is missing" in told
    assert json.loads(run_trader("signal", "received", "breakout", "--json").out) == SIGNALS


def test_a_secret_is_rotated_and_a_strategy_removed_only_when_meant(canned, run_trader):
    canned.answers["POST", "/v2/signals/breakout/rotate"] = 200, {"name": "breakout", "secret": "sig_new"}
    canned.answers["DELETE", "/v2/signals/breakout"] = 200, {"name": "breakout", "status": "REMOVED"}

    assert "sig_new" in run_trader("signal", "rotate", "breakout").out
    assert run_trader("signal", "remove", "breakout").code == 2
    assert [method for method, *_ in canned.heard] == ["POST"]
    assert run_trader("signal", "remove", "breakout", "--yes").code == 0
    assert run_trader("signal", "remove", "nothing", "--yes").code == 1
