"""Upstox's portfolio stream: an authorised address that is good for one connection; one JSON object a frame."""

from __future__ import annotations

from collections.abc import Mapping

from brokers.answers import Unfit, parse_json
from brokers.base import Session
from brokers.dialects import upstox as words
from brokers.dialects.books import unreadable
from brokers.dialects.meanings import unfit_read
from brokers.dialects.upstox_errors import READ_ERRORS
from brokers.streams.base import Address, is_as_safe
from brokers.transport import Answered, Deadline, Wire
from brokers.upstox import BASE_URL, NAME
from domain.outcomes import BookRow, Unreadable

_AUTHORIZE = "/v2/feed/portfolio-stream-feed/authorize?update_types=order"


class UpstoxStream:
    name = NAME
    silence_s: float | None = None  # it has no heartbeat but the WebSocket's own pings

    def __init__(self, base_url: str) -> None:
        self._base_url, self._wire = base_url, Wire(NAME, base_url)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> UpstoxStream:
        return cls(env.get("UPSTOX_BASE_URL") or BASE_URL)

    def address(self, session: Session, *, timeout_s: float) -> Address | Unreadable:
        """A new one for each connection: its code opens a stream once."""
        answer = self._wire.call(
            "stream_authorize",
            "GET",
            _AUTHORIZE,
            headers={"Authorization": f"Bearer {session.access_token}", "Accept": "application/json"},
            deadline=Deadline.within(timeout_s),
        )
        match answer:
            case Answered(200, {"status": "success", "data": {} as data}):
                url = data.get("authorized_redirect_uri") or data.get("authorizedRedirectUri")
                if is_as_safe(url, self._base_url):
                    return Address(url)
                return Unreadable("the authorised address is no WebSocket's")
        return unreadable(unfit_read(words.outcome_of_error(answer, READ_ERRORS)))

    def row(self, frame: str | bytes) -> BookRow | None:
        told = parse_json(frame.encode("utf-8", "replace") if isinstance(frame, str) else frame)
        if not isinstance(told, dict):
            raise Unfit("a frame is no JSON object")
        if told.get("update_type", "order") != "order":
            return None
        return words.book_row(told, ())
