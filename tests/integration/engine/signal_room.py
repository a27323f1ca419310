"""Signal strategies and deliveries for engine tests."""

from __future__ import annotations

from typing import Any

from house import House

from domain.guards import Guard
from domain.ids import new_id
from domain.intents import Acceptance, PlaceRequest, Submission
from domain.signals import SignalForm, digest_of, order_of
from pipeline.intake import Intake
from pipeline.signals import Who, define
from store.acts import Once

FORM: dict[str, Any] = {
    "windowSec": 60,
    "account": "FK0001",
    "template": {
        "instrument": {"field": "ticker", "prefix": "NSE:"},
        "side": {"field": "action", "map": {"buy": "BUY", "sell": "SELL"}},
        "quantity": {"field": "contracts"},
        "product": {"value": "CNC"},
        "orderType": {"value": "LIMIT"},
        "price": {"field": "price"},
    },
}
BODY: dict[str, Any] = {"ticker": "INFY", "action": "buy", "contracts": 10, "price": "1120.00"}


def a_strategy(house: House, name: str = "breakout", **form: Any) -> str:
    desk = house.desk()
    who = Who(house.user_id, "ada", "key", Once(house.user_id, new_id(), b"f"))
    return str(define(desk, who, name, SignalForm.model_validate({**FORM, **form}))["id"])


def a_signal(house: House, strategy_id: str, nonce: str | None = None, **body: Any) -> Submission:
    form = SignalForm.model_validate(FORM)
    line = order_of(form, "breakout", {**BODY, **body})
    signal_id = new_id()
    return Submission(
        user_id=house.user_id,
        key_id=strategy_id,
        idempotency_key=f"signal {strategy_id} {signal_id}",
        fingerprint=digest_of(line),
        request=PlaceRequest(orders=(line,)),
        guard=Guard(signal_id, strategy_id, digest_of(line), nonce),
    )


def deliver(intake: Intake, submission: Submission) -> Acceptance:
    return intake.submit(submission).result(15)
