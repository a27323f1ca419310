"""The simulator's memory over a restart: one JSON line for each thing that happened, only ever appended.

The lines of one advance, or of one request, are written together and before the request is answered, so a killed
simulator has not forgotten an order whose acceptance anyone heard of.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from brokers.simulator.accounts import Account
from brokers.simulator.book import Row, SimOrder, Terms, Trade
from domain.orders import OrderType, Validity

Record = dict[str, Any]


class Journal:
    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._lines: list[bytes] = []
        self.paused = False  # while it is being replayed

    def write(self, kind: str, **fields: Any) -> None:
        if self._file is not None and not self.paused:
            self._lines.append(orjson.dumps({"is": kind, **fields}, default=str))

    def flush(self) -> None:
        if self._lines and self._file is not None:
            lines, self._lines = self._lines, []
            os.write(self._file, b"\n".join(lines) + b"\n")

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def placed(self, order: SimOrder) -> None:
        ask = order.ask
        self.write(
            "order",
            order_id=order.order_id,
            sequence=order.sequence,
            facade=order.facade,
            account=ask.account,
            instrument=ask.instrument.key,
            side=ask.side,
            product=ask.product,
            terms=from_terms(order.terms),
            tag=ask.tag,
            variety=ask.variety,
            parent_order_id=ask.parent_order_id,
            accepted_at=order.accepted_at,
            visible_at=order.visible_at,
            day=order.day,
            refusal=order.refusal,
            refusal_code=order.refusal_code,
        )

    def changed(self, order: SimOrder, row: Row) -> None:
        self.write(
            "row",
            order_id=order.order_id,
            at=row.at,
            status=row.status,
            message=row.message,
            terms=from_terms(row.terms),
            arrived=order.arrived,
            triggered=order.triggered,
            modifications=order.modifications,
            extra_tags=order.extra_tags,
        )

    def traded(self, order: SimOrder, trade: Trade) -> None:
        self.write(
            "trade",
            order_id=order.order_id,
            trade_id=trade.trade_id,
            quantity=trade.quantity,
            price=trade.price,
            at=trade.at,
        )

    def account(self, account: Account) -> None:
        self.write(
            "account",
            name=account.name,
            facade=account.facade,
            user_id=account.user_id,
            api_key=account.api_key,
            api_secret=account.api_secret,
            access_token=account.access_token,
            token_alive=account.token_alive,
            postback_url=account.postback_url,
            cash_paise=account.cash.paise,
            holdings=account.holdings,
        )


def read(path: Path) -> Iterator[Record]:
    """The records of a journal; a last line that was torn by a kill is left out."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                return
            yield orjson.loads(line)


def mend(path: Path) -> None:
    """Cut a torn last line off, so that the next record doesn't grow out of it."""
    if path.exists():
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)


def last_moment(records: list[Record]) -> datetime | None:
    """The simulator's time at the last record that tells one."""
    return next((to_moment(record["at"]) for record in reversed(records) if "at" in record), None)


def from_terms(terms: Terms) -> list[Any]:
    return [
        terms.quantity,
        terms.order_type,
        str(terms.price),
        str(terms.trigger),
        terms.validity,
        terms.disclosed,
        None if terms.protection is None else str(terms.protection),
    ]


def to_terms(fields: list[Any]) -> Terms:
    quantity, order_type, price, trigger, validity, disclosed, protection = fields
    return Terms(
        quantity=quantity,
        order_type=OrderType(order_type),
        price=Decimal(price),
        trigger=Decimal(trigger),
        validity=Validity(validity),
        disclosed=disclosed,
        protection=None if protection is None else Decimal(protection),
    )


def to_moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
