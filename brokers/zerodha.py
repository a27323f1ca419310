"""Zerodha over HTTP: one order a call, as a form; no multi-place, no lookup by tag."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from brokers.answers import Unfit, dump_form, number_of, order_id_of
from brokers.base import Funds, Hint, Line, Payload, Session, Unsayable
from brokers.dialects import zerodha as words
from brokers.dialects.books import book_of, positions_of, rows_of, traded, unreadable
from brokers.dialects.meanings import unfit_read
from brokers.dialects.terms import NotTranslatable
from brokers.transport import BOOK_MAX_BYTES, Answer, Answered, Deadline, Wire
from domain.capabilities import Capabilities, Window
from domain.money import Money
from domain.orders import OrderType, Product, Validity
from domain.outcomes import Accepted, BookRow, Outcome, Unreadable
from domain.positions import Position

NAME = "zerodha"
BASE_URL = "https://api.kite.trade"
FORM = "application/x-www-form-urlencoded"

# Numbers of the documentation and its forum as of 2026; before, 200 a minute and 3,000 a day.
CAPABILITIES = Capabilities(
    broker=NAME,
    exchanges=words.EXCHANGES,
    products=frozenset(Product),
    order_types=frozenset(OrderType),
    validities=frozenset(Validity),
    lines_per_call=1,
    tag_length=20,
    modifies_max=25,
    needs_market_protection=True,
    signs_postbacks=True,
    order_windows=(Window(seconds=1, count=10), Window(seconds=60, count=400), Window(seconds=86_400, count=5000)),
    read_windows=(Window(seconds=1, count=10),),
)


class Zerodha:
    name = NAME
    capabilities = CAPABILITIES

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Zerodha:
        return cls(Wire(NAME, env.get("ZERODHA_BASE_URL") or BASE_URL))

    def payload(self, session: Session, lines: Sequence[Line]) -> Sequence[Payload | Unsayable]:
        if len(lines) > self.capabilities.lines_per_call:
            raise ValueError(f"{len(lines)} lines in one call; {NAME} takes {self.capabilities.lines_per_call}")
        return [self._said(session, at, line) for at, line in enumerate(lines)]

    def place(
        self, session: Session, lines: Sequence[Line], *, timeout_s: float, send_by: float | None = None
    ) -> Sequence[Outcome]:
        deadline = Deadline.within(timeout_s, send_by=send_by)
        return [self._place_one(said, deadline) for said in self.payload(session, lines)]

    def modify(
        self,
        session: Session,
        broker_order_id: str,
        line: Line,
        *,
        changed: Collection[str],
        timeout_s: float,
        send_by: float | None = None,
    ) -> Outcome:
        """With nothing but what has changed: Kite keeps what isn't named."""
        try:
            fields = words.modify_fields(line.order, changed)
        except NotTranslatable as error:
            return error.refusal
        deadline = Deadline.within(timeout_s, send_by=send_by)
        answer = self._send("modify", "PUT", _order_path(broker_order_id), session, deadline, fields)
        return _receipt(answer, words.MODIFY_ERRORS, broker_order_id)

    def cancel(
        self, session: Session, broker_order_id: str, *, timeout_s: float, send_by: float | None = None
    ) -> Outcome:
        deadline = Deadline.within(timeout_s, send_by=send_by)
        answer = self._send("cancel", "DELETE", _order_path(broker_order_id), session, deadline)
        return _receipt(answer, words.CANCEL_ERRORS, broker_order_id)

    def book(self, session: Session, *, timeout_s: float) -> Sequence[BookRow] | Unreadable:
        deadline = Deadline.within(timeout_s)
        try:
            orders = rows_of(self._read("book", "/orders", session, deadline), "orders")
            trades = rows_of(self._read("trades", "/trades", session, deadline), "trades") if traded(orders) else []
            return book_of(orders, trades, words.book_row, words.fill)
        except Unfit as unfit:
            return unreadable(unfit)

    def funds(self, session: Session, *, timeout_s: float) -> Funds | Unreadable:
        try:
            data = self._read("funds", "/user/margins", session, Deadline.within(timeout_s))
        except Unfit as unfit:
            return unreadable(unfit)
        match data:
            case {"equity": {"net": available, "utilised": {"debits": used}}}:
                available, used = number_of(available), number_of(used)
                if available is not None and used is not None:
                    return Funds(Money.of_rupees(available), Money.of_rupees(used))
        return Unreadable("the funds have no equity margin")

    def positions(self, session: Session, *, timeout_s: float) -> Sequence[Position] | Unreadable:
        try:
            data = self._read("positions", "/portfolio/positions", session, Deadline.within(timeout_s))
            return positions_of(rows_of(data.get("net") if isinstance(data, dict) else None, "positions"), words.position)
        except Unfit as unfit:
            return unreadable(unfit)

    def hint(self, session: Session, headers: dict[str, str], body: bytes) -> Hint | None:
        """Verified if its checksum, SHA-256 of order id, time as written and API secret, is right."""
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            return None
        if not isinstance(told, dict):
            return None
        broker_order_id, at, checksum = told.get("order_id"), told.get("order_timestamp"), told.get("checksum")
        if not isinstance(broker_order_id, str) or order_id_of(broker_order_id) is None:
            return None
        verified = (
            isinstance(at, str) and isinstance(checksum, str) and _is_signed(broker_order_id + at, checksum, session)
        )
        return Hint(broker_order_id, verified)

    def _said(self, session: Session, at: int, line: Line) -> Payload | Unsayable:
        try:
            fields = words.place_fields(line)
        except NotTranslatable as error:
            return Unsayable(at, error.refusal)
        headers = {**_headers(session), "Content-Type": FORM}
        secret = {"Authorization": headers.pop("Authorization")}
        body = dump_form(fields).encode()
        return Payload((at,), "POST", self._wire.base_url, "/orders/regular", headers, secret, body)

    def _place_one(self, said: Payload | Unsayable, deadline: Deadline) -> Outcome:
        if isinstance(said, Unsayable):
            return said.refusal
        answer = self._wire.call(
            "place", said.method, said.target, headers=said.all_headers, content=said.body, deadline=deadline
        )
        return _receipt(answer, words.PLACE_ERRORS)

    def _send(
        self,
        operation: str,
        method: str,
        target: str,
        session: Session,
        deadline: Deadline,
        fields: Mapping[str, str] | None = None,
    ) -> Answer:
        headers = _headers(session)
        if fields is not None:
            headers["Content-Type"] = FORM
        content = dump_form(fields).encode() if fields else b""
        return self._wire.call(operation, method, target, headers=headers, content=content, deadline=deadline)

    def _read(self, operation: str, target: str, session: Session, deadline: Deadline) -> Any:
        answer = self._wire.call(
            operation, "GET", target, headers=_headers(session), deadline=deadline, answer_max_bytes=BOOK_MAX_BYTES
        )
        match answer:
            case Answered(200, {"status": "success", "data": data}):
                return data
        raise unfit_read(words.outcome_of_error(answer, words.READ_ERRORS))


def _receipt(answer: Answer, table: words.ErrorTable, broker_order_id: str | None = None) -> Outcome:
    """Accepted with the id that the answer gives, which for a modify or cancel must be the one it was asked for."""
    match answer:
        case Answered(status, {"status": "success", "data": {"order_id": given}}) if 200 <= status < 300:
            found = order_id_of(given)
            if found is not None and broker_order_id in (None, found):
                return Accepted(found)
    return words.outcome_of_error(answer, table)


def _order_path(broker_order_id: str) -> str:
    return f"/orders/regular/{quote(broker_order_id, safe='')}"


def _headers(session: Session) -> dict[str, str]:
    return {
        "X-Kite-Version": "3",
        "Authorization": f"token {session.api_key}:{session.access_token}",
        "Accept": "application/json",
    }


def _is_signed(text: str, checksum: str, session: Session) -> bool:
    right = hashlib.sha256((text + session.api_secret).encode("utf-8", "surrogatepass")).hexdigest()
    return hmac.compare_digest(right.encode(), checksum.encode("utf-8", "surrogatepass"))
