"""How calls of changes ended: what several of one transaction come to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from domain.changes import Change, Told
from domain.commands import Command, CommandKind, CommandState
from domain.lifecycle import OrderState
from domain.orders import Order, OrderType, Product, Side, Validity
from domain.outcomes import NotSent
from domain.settings import Settings
from pipeline.batch import Batch
from pipeline.desk import Desk
from pipeline.stages.change import RESEND_S, _settle

NOW = datetime(2026, 11, 25, 5, 0, tzinfo=UTC)
DESK = cast(Desk, SimpleNamespace(settings=Settings))


def an_order(order_id: str) -> Order:
    return Order(
        id=order_id,
        intent_id="i0",
        line=0,
        correlation_id="c",
        user_id="u",
        instrument="NSE:INFY",
        side=Side.BUY,
        quantity=10,
        product=Product.CNC,
        order_type=OrderType.LIMIT,
        validity=Validity.DAY,
        state=OrderState.OPEN,
        broker="upstox",
        account_id="A1",
        broker_order_id="B1",
        accepted_at=NOW,
        send_before=NOW,
    )


def settled(order_id: str, outcome: NotSent, batch: Batch) -> Command:
    given: dict[str, Any] = {"order_id": order_id, "seq": 1}
    command = Command(
        **given, kind=CommandKind.CANCEL, stage="dispatch.upstox.cancel", state=CommandState.SENDING, due_at=NOW
    )
    change = Change(**given, intent_id="i1", line=0, wanted={}, asked_at=NOW)
    _settle(DESK, an_order(order_id), command, change, outcome, batch)
    assert change.told is Told.NOT_SENT
    return command


@pytest.mark.parametrize("waits", [(None, 30.0), (30.0, None)])
def test_one_that_has_to_wait_for_long_does_not_hide_that_another_is_due_soon(
    waits: tuple[float | None, float | None],
) -> None:
    batch = Batch(at=NOW)
    commands = [
        settled(order_id, NotSent("too many requests", wait_s), batch)
        for order_id, wait_s in zip(("o1", "o2"), waits, strict=True)
    ]

    assert batch.later == {"cancel": RESEND_S}
    assert [command.due_at for command in commands] == [NOW + timedelta(seconds=wait_s or RESEND_S) for wait_s in waits]
