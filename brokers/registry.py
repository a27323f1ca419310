"""The brokers there are: a new one is its file, with `from_env`, and a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from brokers.base import Adapter
from brokers.stub import Stub
from brokers.upstox import Upstox
from brokers.zerodha import Zerodha

BROKERS: dict[str, Callable[[Mapping[str, str]], Adapter | None]] = {
    "upstox": Upstox.from_env,
    "zerodha": Zerodha.from_env,
    "stub": Stub.from_env,  # with STUB_BROKER=1 only
}


def build(env: Mapping[str, str]) -> dict[str, Adapter]:
    """Every broker that the environment allows, by name. Connections are made at first use, not here."""
    made = {name: make(env) for name, make in BROKERS.items()}
    return {name: adapter for name, adapter in made.items() if adapter is not None}
