"""The simulator's order streams: who may open one, what it tells, and what goes wrong with it on command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from simulator_client import RESTING, Client, a_client, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect

FEED = "/v2/feed/portfolio-stream-feed"
WALK = ["put order req received", "validation pending", "open pending", "open", "complete"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Client]:
    with a_client(step_delay_ms=1) as client:
        yield client


@pytest.fixture
def client(shared: Client) -> Client:
    shared.control("POST", "/reset", {"what": ["faults", "counts"]})
    return shared


@contextmanager
def upstox_stream(client: Client, types: str = "order") -> Iterator[ClientConnection]:
    _, body = client.upstox("GET", f"{FEED}/authorize?update_types={types}")
    with connect(body["data"]["authorizedRedirectUri"], proxy=None) as opened:
        until(lambda: types != "order" or client.control("GET", "/streams").get("UP0001"))
        yield opened


@contextmanager
def ticker(client: Client) -> Iterator[ClientConnection]:
    address = client.simulator.urls["zerodha"].replace("http", "ws")
    with connect(f"{address}/?api_key=sim-zerodha-key&access_token=sim-zerodha-token", proxy=None) as opened:
        until(lambda: client.control("GET", "/streams").get("ZR0001"))
        yield opened


def heard(stream: ClientConnection, tag: str, last: str = "complete") -> list[str]:
    """What a stream says of one order, up to this state."""
    states: list[str] = []
    while not states or states[-1] != last:
        frame = json.loads(stream.recv(timeout=5))
        if frame["tag"] == tag:
            states.append(frame["status"])
    return states


def ended(stream: ClientConnection) -> None:
    """Waits for its end, whatever else comes before."""
    while stream.state is State.OPEN:
        with suppress(ConnectionClosed):
            stream.recv(timeout=5)


def test_upstox_tells_each_state_an_order_goes_through(client: Client) -> None:
    with upstox_stream(client) as stream:
        client.place_upstox(tag="walked")

        assert heard(stream, "walked") == WALK


def test_a_bearer_token_is_sent_on_to_an_address_of_its_own(client: Client) -> None:
    direct = client.simulator.urls["upstox"].replace("http", "ws") + f"{FEED}?update_types=order"
    status, _ = client.upstox("GET", f"{FEED}?update_types=order")

    with connect(direct, additional_headers={"Authorization": "Bearer sim-upstox-token"}, proxy=None) as stream:
        until(lambda: client.control("GET", "/streams").get("UP0001"))
        client.place_upstox(tag="sent-on")
        states = heard(stream, "sent-on")

    assert (status, states[-1]) == (302, "complete")
    with pytest.raises(InvalidStatus), connect(direct, proxy=None):
        pass


def test_a_stream_of_other_things_is_quiet(client: Client) -> None:
    with upstox_stream(client, "position,holding") as stream:
        client.place_upstox(tag="unheard")
        until(lambda: client.judged("unheard")["state"] == "complete")

        with pytest.raises(TimeoutError):
            stream.recv(timeout=0.2)


def test_the_ticker_beats_and_tells_orders_as_text(client: Client) -> None:
    with ticker(client) as stream:
        beat = stream.recv(timeout=5)
        client.place_zerodha(tag="ticked")
        frames = []
        while not frames or frames[-1]["data"]["status"] != "COMPLETE":
            if isinstance(frame := stream.recv(timeout=5), str):
                frames.append(json.loads(frame))

    assert beat == b"\0"
    assert {(frame["type"], frame["data"]["checksum"]) for frame in frames} == {("order", "")}


@pytest.mark.parametrize(("kind", "expected"), [
    ("frame_missing", [1, 2, 3, 4]),
    ("frame_repeated", [0, 0, 1, 2, 3, 4]),
    ("frame_reordered", [1, 0, 2, 3, 4]),
])  # fmt: skip
def test_a_frame_goes_missing_comes_twice_or_too_late(client: Client, kind: str, expected: list[int]) -> None:
    client.control("POST", "/faults", {"kind": kind, "endpoint": "frame", "facade": "upstox"})
    with upstox_stream(client) as stream:
        client.place_upstox(tag=kind)

        assert heard(stream, kind) == [WALK[number] for number in expected]


def test_a_delayed_frame_comes_after_all_others(client: Client) -> None:
    client.control("POST", "/faults", {"kind": "frame_delayed", "endpoint": "frame", "seconds": 0.5})
    with upstox_stream(client) as stream:
        client.place_upstox(tag="delayed")

        assert heard(stream, "delayed", last=WALK[0]) == [*WALK[1:], WALK[0]]


def test_a_cut_stream_ends_and_replays_nothing(client: Client) -> None:
    client.control("POST", "/faults", {"kind": "stream_cut", "endpoint": "frame"})
    with upstox_stream(client) as stream:
        client.place_upstox(tag="cut")
        ended(stream)
    until(lambda: client.judged("cut")["state"] == "complete")
    with upstox_stream(client) as stream:
        client.place_upstox(tag="afterwards")

        assert heard(stream, "afterwards")[0] == WALK[0]


def test_streams_are_counted_and_cut_by_command(client: Client) -> None:
    with upstox_stream(client) as first, ticker(client) as second:
        assert client.control("GET", "/streams") == {"UP0001": 1, "ZR0001": 1}
        assert client.control("DELETE", "/streams?account=UP0001") == {"cut": 1}
        ended(first)
        assert second.recv(timeout=5) == b"\0"
        assert client.control("DELETE", "/streams") == {"cut": 1}
    until(lambda: client.control("GET", "/streams") == {})


def test_a_dead_token_ends_the_stream(client: Client) -> None:
    with upstox_stream(client) as stream:
        _, body = client.place_upstox(tag="dying", order_type="LIMIT", price=float(RESTING))
        heard(stream, "dying", last="open")
        client.control("PUT", "/accounts/UP0001", {"token_alive": False})
        client.control("POST", "/fills", {"order_id": body["data"]["order_ids"][0]})
        ended(stream)
    client.control("PUT", "/accounts/UP0001", {"token_alive": True})


def test_a_silent_stream_answers_nothing(client: Client) -> None:
    client.control("POST", "/faults", {"kind": "stream_silent", "endpoint": "frame", "count": 1})
    with upstox_stream(client) as stream:
        client.place_upstox(tag="silent")
        until(lambda: client.judged("silent")["state"] == "complete")
        with pytest.raises(TimeoutError):
            stream.recv(timeout=0.2)
        answered: Any = stream.ping().wait(0.2)
        client.control("DELETE", "/streams")

    assert not answered
