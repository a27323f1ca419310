"""The simulator as a process: its ports, its memory over a kill, its end; and what the control refuses."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulator_client import FAR_BELOW, PRICE, UPSTOX_LINE, Client, a_client, until

from brokers.simulator.clock import Clock
from brokers.simulator.server import Plan, SimulatorServer


@contextmanager
def a_process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
    ready = folder / "ready"
    ready.unlink(missing_ok=True)
    env = {**os.environ, "SIMULATOR_STATE": str(folder / "books.jsonl"), "READY_FILE": str(ready)}
    with subprocess.Popen(
        [sys.executable, "-m", "brokers.simulator"], stdout=subprocess.PIPE, env=env, text=True
    ) as process:
        assert process.stdout is not None
        try:
            ports = json.loads(process.stdout.readline())["ports"]
            assert ready.exists()
            yield process, ports
        finally:
            process.kill()


def call(port: int, method: str, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        headers = {"Authorization": "Bearer sim-upstox-token"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def test_a_killed_simulator_remembers_what_it_accepted(tmp_path):
    with a_process(tmp_path) as (process, ports):
        assert set(ports) == {"upstox", "zerodha", "control"}
        call(ports["control"], "PUT", "/settings", {"rate_limits": False, "fill_delay_ms": 300})
        placed = [
            call(ports["upstox"], "POST", "/v3/order/place", UPSTOX_LINE | {"tag": f"k{n}"})["data"]["order_ids"][0]
            for n in range(20)
        ]
        process.send_signal(signal.SIGKILL)
        process.wait(5)

    with a_process(tmp_path) as (process, ports):
        known = call(ports["control"], "GET", "/orders")
        assert [row["order_id"] for row in known] == placed
        until(lambda: all(row["state"] == "complete" for row in call(ports["control"], "GET", "/orders")))
        again = call(ports["upstox"], "POST", "/v3/order/place", UPSTOX_LINE)["data"]["order_ids"][0]
        assert again not in placed


def test_a_days_end_that_was_slept_through_is_made_up_for(tmp_path):
    plan = Plan(state=tmp_path / "books.jsonl")
    with SimulatorServer(plan) as simulator:
        Client(simulator).place_upstox(tag="rests", order_type="LIMIT", price=float(FAR_BELOW))

    tomorrow = Clock(source=lambda: time.time() + 86_400)
    with SimulatorServer(replace(plan, clock=tomorrow)) as simulator:
        client = Client(simulator)
        until(lambda: client.judged("rests")["state"] == "cancelled")
        assert client.upstox("GET", "/v2/order/retrieve-all")[1]["data"] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_when_told_to(tmp_path, number):
    with a_process(tmp_path) as (process, ports):
        keeps_open = socket.create_connection(("127.0.0.1", ports["upstox"]))
        process.send_signal(number)

        assert process.wait(5) == 0
        keeps_open.close()


@pytest.fixture(scope="module")
def client():
    with a_client() as client:
        yield client


@pytest.mark.parametrize(("method", "path", "body", "words"), [
    ("GET", "/nowhere", None, "no GET /nowhere"),
    ("PUT", "/settings", {"fill_delay": 1}, "fill_delay"),
    ("PUT", "/settings", [], "JSON object"),
    ("POST", "/faults", {"kind": "rain"}, "kind"),
    ("POST", "/accounts", {"facade": "nobody"}, "facade is one of"),
    ("POST", "/accounts", {"facade": "upstox", "access_token": "sim-upstox-token"}, "already"),
    ("PUT", "/accounts/NOBODY", {}, "no account"),
    ("PUT", "/accounts/UP0001", {"holdings": {"NSE:NOBODY": 1}}, "no instrument"),
    ("PUT", "/prices/NSE:NOBODY", {"price": 1}, "no instrument"),
    ("PUT", "/prices/NSE:INFY", {"price": "much"}, "no number"),
    ("POST", "/fills", {"order_id": "1"}, "no order"),
    ("PUT", "/clock", {"now": "2020-01-01T00:00:00+00:00"}, "can't go back"),
    ("PUT", "/clock", {"nwo": 1}, "no field nwo"),
    ("POST", "/reset", {"what": ["world"]}, "nothing called world"),
])  # fmt: skip
def test_the_control_says_what_was_wrong(client, method, path, body, words):
    with pytest.raises(ValueError, match=words):
        client.control(method, path, body)


def test_the_control_answers_nonsense_with_a_400(client):
    address = client.simulator.urls["control"].removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=5)
    connection.request("PUT", "/clock", b"\xff{not json")
    response = connection.getresponse()
    assert (response.status, "error" in json.loads(response.read())) == (400, True)
    connection.close()


def test_the_clock_is_told_and_steered(client):
    client.control("PUT", "/clock", {"frozen": True})
    before = client.control("GET", "/clock")
    after = client.control("PUT", "/clock", {"advance_s": 60})

    assert (before["frozen"], before["calendar"], before["session"]) == (True, "SIM", "open")
    assert after["now"] > before["now"]
    client.control("PUT", "/clock", {"frozen": False})


def test_a_price_is_pinned_and_let_go(client):
    assert client.control("GET", "/prices/NSE:INFY")["last"] == str(PRICE)
    assert client.control("PUT", "/prices/NSE:INFY", {"price": None})["pinned"] is False
    client.control("PUT", "/prices/NSE:INFY", {"price": str(PRICE)})


@pytest.mark.parametrize(
    "junk", [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
)
def test_junk_on_the_wire_is_refused_and_harms_nobody(client, junk):
    host, port = client.simulator.urls["upstox"].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as wire:
        wire.sendall(junk)
        assert wire.recv(1000).startswith(b"HTTP/1.1 400")

    assert client.place_upstox()[0] == 200


def test_a_chunked_body_on_a_kept_connection_is_understood(client):
    connection = http.client.HTTPConnection(client.simulator.urls["upstox"].removeprefix("http://"), timeout=5)
    body = json.dumps(UPSTOX_LINE).encode()
    for _ in range(2):
        headers = {"Authorization": "Bearer sim-upstox-token"}
        connection.request("POST", "/v3/order/place", iter([body[:20], body[20:]]), headers, encode_chunked=True)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["status"]) == (200, "success")
    connection.close()
