"""Zerodha's ticker: order updates as text frames beside its ticks, and a heartbeat of one byte."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from brokers.answers import Unfit, parse_json
from brokers.base import Session
from brokers.dialects import zerodha as words
from brokers.streams.base import Address, websocket_url
from brokers.zerodha import NAME
from domain.outcomes import BookRow, Unreadable

STREAM_URL = "wss://ws.kite.trade"


class ZerodhaStream:
    name = NAME
    silence_s: float | None = 15.0  # it beats every second or two

    def __init__(self, url: str) -> None:
        self._url = url

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> ZerodhaStream:
        """A base URL of one's own serves the ticker, too, unless that has its own setting."""
        base_url = env.get("ZERODHA_BASE_URL")
        return cls(env.get("ZERODHA_STREAM_URL") or (websocket_url(base_url) if base_url else STREAM_URL))

    def address(self, session: Session, *, timeout_s: float) -> Address | Unreadable:
        query = urlencode({"api_key": session.api_key, "access_token": session.access_token})
        return Address(f"{self._url}/?{query}", {"X-Kite-Version": "3"})

    def row(self, frame: str | bytes) -> BookRow | None:
        """Its checksum is blank here; the connection was opened with the account's own token."""
        if isinstance(frame, bytes):
            return None  # a heartbeat, or ticks nobody asked for
        told = parse_json(frame.encode("utf-8", "replace"))
        if not isinstance(told, dict):
            raise Unfit("a frame is no JSON object")
        if told.get("type") != "order":
            return None
        data = told.get("data")
        if not isinstance(data, dict):
            raise Unfit("an order's frame has no order")
        return words.book_row(data, ())
