"""The order streams there are: a broker's is its file, with `from_env`, and a row here. One without is polled alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from brokers.streams.base import OrderStream
from brokers.streams.upstox import UpstoxStream
from brokers.streams.zerodha import ZerodhaStream

STREAMS: dict[str, Callable[[Mapping[str, str]], OrderStream]] = {
    "upstox": UpstoxStream.from_env,
    "zerodha": ZerodhaStream.from_env,
}


def build(env: Mapping[str, str]) -> dict[str, OrderStream]:
    """Every stream by its broker's name. Nothing is connected here."""
    return {name: make(env) for name, make in STREAMS.items()}
