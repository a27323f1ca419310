"""What every broker's stream offers: where it is, and what a frame of it says, in our words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from brokers.base import Session
from domain.outcomes import BookRow, Unreadable


@dataclass(frozen=True, slots=True)
class Address:
    """Where one connection goes. It carries secrets, which never show in a repr, a log or an error."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class OrderStream(Protocol):
    """One broker's order stream."""

    name: str
    silence_s: (
        float | None
    )  # a stream that beats is dead when nothing came for so long; None: it may be quiet for hours

    def address(self, session: Session, *, timeout_s: float) -> Address | Unreadable:
        """The address for one connection; may call the broker. Raises nothing for what it does."""
        ...

    def row(self, frame: str | bytes) -> BookRow | None:
        """The order as a frame shows it, without its fills; None for a frame that is about something else.

        Raises:
            Unfit: it can't be read, whatever it was about.
        """
        ...


def websocket_url(base_url: str) -> str:
    """The base URL of a stream that is served where the HTTP dialect is: http becomes ws, https wss."""
    parts = urlsplit(base_url)
    return parts._replace(scheme="wss" if parts.scheme == "https" else "ws").geturl().rstrip("/")


def is_as_safe(url: object, base_url: str) -> bool:
    """Whether a broker's answer names a WebSocket that is no less protected than the call it answered."""
    if not isinstance(url, str):
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    schemes = ("wss",) if urlsplit(base_url).scheme == "https" else ("ws", "wss")
    return parts.scheme in schemes and bool(parts.hostname) and port != 0
