"""What accepting has in common for whatever changes orders and switches: tries, and keys that were used before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import psycopg

from domain.errors import KeyReused, KeySpent, StoreAway
from store import intents
from store.intents import KeptChange
from store.unit import Unit, is_passing

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Anew(Exception):
    """What was read doesn't hold any more: all of it is done anew."""


def with_tries(write: Callable[[], _T], *, tries: int, busy: str) -> _T:
    """What `write` gives: one transaction, begun anew where another's lock isn't had in time, which says nothing of the request.

    Raises StoreAway with the words of `busy`: it is safe to ask again.
    """
    for left in reversed(range(tries)):
        try:
            return write()
        except (psycopg.OperationalError, Anew) as error:
            if not left or not (isinstance(error, Anew) or is_passing(error)):
                raise StoreAway(busy) from error
            log.info("written down anew: %s", str(error) or type(error).__name__)
    raise AssertionError("the last try returns or raises")


def kept_under(
    unit: Unit, user_id: str, idempotency_key: str, fingerprint: bytes, now: datetime, *, tells: str
) -> KeptChange | None:
    """What the key stands for already; `tells` is what the answer of a request of this kind has in it.

    Raises KeyReused and KeySpent.
    """
    kept = intents.find_change(unit, user_id, idempotency_key, now)
    if kept is None:
        return None
    if kept.fingerprint != fingerprint or tells not in kept.answer:
        raise KeyReused("this Idempotency-Key came with another request before; use a new key")
    if not kept.live:
        raise KeySpent(kept.intent_id)
    return kept
