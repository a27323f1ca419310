"""Upstox over HTTP: single orders on its low-latency host, everything else on the standard one."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from brokers.answers import Unfit, dump_json, number_of, order_id_of
from brokers.base import Funds, Hint, Line, Payload, Session, Unsayable
from brokers.dialects import terms
from brokers.dialects import upstox as words
from brokers.dialects import upstox_errors as errors
from brokers.dialects.books import book_of, positions_of, rows_of, traded, unreadable
from brokers.dialects.meanings import unfit_read
from brokers.dialects.terms import NotTranslatable
from brokers.dialects.upstox_batch import outcomes_of_batch
from brokers.transport import BOOK_MAX_BYTES, Answer, Answered, Deadline, Wire
from domain.capabilities import Capabilities, Window
from domain.money import Money
from domain.orders import OrderType, Product, Validity
from domain.outcomes import Accepted, BookRow, Outcome, Unknown, Unreadable
from domain.positions import Position

NAME = "upstox"
BASE_URL = "https://api.upstox.com"
HFT_BASE_URL = "https://api-hft.upstox.com"

# Numbers of the documentation as of August 2026; before April 2026 a multi-place took 25 lines.
CAPABILITIES = Capabilities(
    broker=NAME,
    exchanges=frozenset(words.SEGMENTS),
    products=frozenset(Product),
    order_types=frozenset(OrderType),
    validities=frozenset(Validity),
    lines_per_call=10,
    tag_length=40,
    order_windows=(Window(seconds=1, count=10), Window(seconds=60, count=500), Window(seconds=1800, count=2000)),
    read_windows=(Window(seconds=1, count=50), Window(seconds=60, count=500), Window(seconds=1800, count=2000)),
)


class Upstox:
    name = NAME
    capabilities = CAPABILITIES

    def __init__(self, wire: Wire, hft: Wire) -> None:
        self._wire, self._hft = wire, hft

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Upstox:
        """A base URL of one's own serves both roles, unless the low-latency host has its own setting."""
        base_url = env.get("UPSTOX_BASE_URL") or BASE_URL
        hft_url = env.get("UPSTOX_HFT_BASE_URL") or (HFT_BASE_URL if base_url == BASE_URL else base_url)
        wire = Wire(NAME, base_url)
        return cls(wire, wire if hft_url == base_url else Wire(NAME, hft_url))

    def payload(self, session: Session, lines: Sequence[Line]) -> Sequence[Payload | Unsayable]:
        """One line on its own, more by a multi-place; its correlation ids are the orders' tags."""
        if len(lines) > self.capabilities.lines_per_call:
            raise ValueError(f"{len(lines)} lines in one call; {NAME} takes {self.capabilities.lines_per_call}")
        said: list[Payload | Unsayable] = []
        sayable: dict[int, dict[str, Any]] = {}
        for at, line in enumerate(lines):
            try:
                sayable[at] = words.place_fields(line)
            except NotTranslatable as error:
                said.append(Unsayable(at, error.refusal))
        if len(sayable) == 1:
            ((at, fields),) = sayable.items()
            body = dump_json(fields).encode()
            said.append(_payload((at,), self._hft.base_url, "/v3/order/place", session, body))
        elif sayable:
            said.append(self._batch(session, sayable))
        return said

    def place(
        self, session: Session, lines: Sequence[Line], *, timeout_s: float, send_by: float | None = None
    ) -> Sequence[Outcome]:
        deadline = Deadline.within(timeout_s, send_by=send_by)
        outcomes: list[Outcome | None] = [None] * len(lines)
        for said in self.payload(session, lines):
            if isinstance(said, Unsayable):
                outcomes[said.line] = said.refusal
            elif len(said.lines) == 1:
                outcomes[said.lines[0]] = _place_receipt(_send(self._hft, said, deadline))
            else:
                found = self._place_batch(session, {at: lines[at] for at in said.lines}, said, deadline)
                for at, outcome in zip(said.lines, found, strict=True):
                    outcomes[at] = outcome
        return [outcome or Unknown("no outcome was worked out") for outcome in outcomes]

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
        """With order type, validity, price and trigger price, which v3 and v2 of the call demand, and what else has changed."""
        try:
            body = dump_json(words.modify_fields(broker_order_id, line, changed)).encode()
        except NotTranslatable as error:
            return error.refusal
        answer = self._hft.call(
            "modify",
            "PUT",
            "/v3/order/modify",
            headers=_headers(session, body),
            content=body,
            deadline=Deadline.within(timeout_s, send_by=send_by),
        )
        return _receipt(answer, broker_order_id, errors.MODIFY_ERRORS)

    def cancel(
        self, session: Session, broker_order_id: str, *, timeout_s: float, send_by: float | None = None
    ) -> Outcome:
        answer = self._hft.call(
            "cancel",
            "DELETE",
            f"/v3/order/cancel?order_id={quote(broker_order_id, safe='')}",
            headers=_headers(session),
            deadline=Deadline.within(timeout_s, send_by=send_by),
        )
        return _receipt(answer, broker_order_id, errors.CANCEL_ERRORS)

    def book(self, session: Session, *, timeout_s: float) -> Sequence[BookRow] | Unreadable:
        deadline = Deadline.within(timeout_s)
        try:
            orders = rows_of(self._read("book", "/v2/order/retrieve-all", session, deadline), "orders")
            trades = (
                rows_of(self._read("trades", "/v2/order/trades/get-trades-for-day", session, deadline), "trades")
                if traded(orders)
                else []
            )
            return book_of(orders, trades, words.book_row, words.fill)
        except Unfit as unfit:
            return unreadable(unfit)

    def funds(self, session: Session, *, timeout_s: float) -> Funds | Unreadable:
        try:
            data = self._read("funds", "/v2/user/get-funds-and-margin", session, Deadline.within(timeout_s))
        except Unfit as unfit:
            return unreadable(unfit)
        match data:
            case {"equity": {"available_margin": available, "used_margin": used}}:  # equity and commodity together
                available, used = number_of(available), number_of(used)
                if available is not None and used is not None:
                    return Funds(Money.of_rupees(available), Money.of_rupees(used))
        return Unreadable("the funds have no equity margin")

    def positions(self, session: Session, *, timeout_s: float) -> Sequence[Position] | Unreadable:
        """Two reads: those of funded delivery have an address of their own."""
        deadline = Deadline.within(timeout_s)
        try:
            rows = [
                row
                for target in ("/v2/portfolio/short-term-positions", "/v3/portfolio/mtf-positions")
                for row in rows_of(self._read("positions", target, session, deadline), "positions")
            ]
            return positions_of(rows, words.position)
        except Unfit as unfit:
            return unreadable(unfit)

    def hint(self, session: Session, headers: dict[str, str], body: bytes) -> Hint | None:
        """Upstox signs nothing, so no hint of it is verified."""
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            return None
        if not isinstance(told, dict) or told.get("update_type", "order") != "order":
            return None
        broker_order_id = order_id_of(told.get("order_id"))
        return Hint(broker_order_id, verified=False) if broker_order_id else None

    def _place_batch(
        self, session: Session, lines: Mapping[int, Line], payload: Payload, deadline: Deadline
    ) -> list[Outcome]:
        by_tag = {terms.tag(line.order): at for at, line in lines.items()}
        if len(by_tag) < len(lines):
            raise ValueError("two lines of one call have the same tag")

        def send_again(tags: Sequence[str]) -> Answer:
            others = {by_tag[tag]: words.place_fields(lines[by_tag[tag]]) for tag in tags}
            return _send(self._wire, self._batch(session, others), deadline)

        return outcomes_of_batch(list(by_tag), _send(self._wire, payload, deadline), send_again)

    def _batch(self, session: Session, fields: Mapping[int, Mapping[str, Any]]) -> Payload:
        body = dump_json([{"correlation_id": line["tag"], **line} for line in fields.values()]).encode()
        return _payload(tuple(fields), self._wire.base_url, "/v2/order/multi/place", session, body)

    def _read(self, operation: str, target: str, session: Session, deadline: Deadline) -> Any:
        answer = self._wire.call(
            operation,
            "GET",
            target,
            headers=_headers(session),
            deadline=deadline,
            answer_max_bytes=BOOK_MAX_BYTES,
        )
        match answer:
            case Answered(200, {"status": "success", "data": data}):
                return data
        raise unfit_read(words.outcome_of_error(answer, errors.READ_ERRORS))


def _payload(lines: tuple[int, ...], base_url: str, target: str, session: Session, body: bytes) -> Payload:
    headers = _headers(session, body)
    secret = {"Authorization": headers.pop("Authorization")}
    return Payload(lines, "POST", base_url, target, headers, secret, body)


def _send(wire: Wire, payload: Payload, deadline: Deadline) -> Answer:
    return wire.call(
        "place", payload.method, payload.target, headers=payload.all_headers, content=payload.body, deadline=deadline
    )


def _place_receipt(answer: Answer) -> Outcome:
    match answer:
        case Answered(status, {"status": "success", "data": {"order_ids": [order_id]}}) if 200 <= status < 300:
            broker_order_id = order_id_of(order_id)
            if broker_order_id is not None:
                return Accepted(broker_order_id)
    return words.outcome_of_error(answer, errors.PLACE_ERRORS)


def _receipt(answer: Answer, broker_order_id: str, table: errors.ErrorTable) -> Outcome:
    match answer:
        case Answered(status, {"status": "success", "data": {"order_id": order_id}}) if 200 <= status < 300:
            if order_id_of(order_id) == broker_order_id:
                return Accepted(broker_order_id)
    return words.outcome_of_error(answer, table)


def _headers(session: Session, content: bytes = b"") -> dict[str, str]:
    headers = {"Authorization": f"Bearer {session.access_token}", "Accept": "application/json"}
    return {**headers, "Content-Type": "application/json"} if content else headers
