"""A signal's idempotency key: made of the delivery, and none that a client could send."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from domain.ids import new_id
from ingress.problems import Problem
from ingress.signals import _submission
from ingress.wire import idempotency_key
from store.signals import Strategy

FORM: dict[str, Any] = {
    "template": {
        "instrument": {"field": "ticker", "prefix": "NSE:"},
        "side": {"value": "BUY"},
        "quantity": {"value": 10},
        "product": {"value": "MIS"},
    }
}


class Sent:
    """A request with this Idempotency-Key, as far as it is looked at."""

    def __init__(self, key: str) -> None:
        self._key = key

    def get_header(self, name: str) -> str | None:
        return self._key if name == "IDEMPOTENCY-KEY" else None


def a_strategy() -> Strategy:
    now = datetime.now(UTC)
    return Strategy(new_id(), new_id(), "breakout", bytes(32), FORM, 1, now, now)


def test_no_clients_key_can_be_a_signals() -> None:
    submission = _submission(a_strategy(), new_id(), {"ticker": "INFY"})

    with pytest.raises(Problem) as refused:
        idempotency_key(Sent(submission.idempotency_key))  # type: ignore[arg-type]
    assert refused.value.code == "IDEMPOTENCY_KEY_INVALID"


def test_each_delivery_has_a_key_of_its_own() -> None:
    strategy = a_strategy()
    keys = {_submission(strategy, new_id(), {"ticker": "INFY"}).idempotency_key for _ in range(3)}

    assert len(keys) == 3
