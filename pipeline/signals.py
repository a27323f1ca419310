"""Signal strategies: defined, given a new secret and removed by their users, found for whoever delivers a signal.

Every change is written with its line of the audit log and the answer that a repeat of the request gets. That answer may
hold a secret, which the record must not have in clear: there it is sealed.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.errors import NotFound
from domain.guards import SignalStatus
from domain.ids import new_id
from domain.signals import SignalForm
from pipeline.accepting import with_tries
from pipeline.crash import crash
from pipeline.desk import Desk
from store import acts, audit, signals
from store.acts import Once
from store.sealing import seal, unseal
from store.signals import Delivery, Strategy
from store.unit import Unit

WORDS_MAX = 1_000
TRIES = 2  # of three seconds each
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Who:
    """A user at work on a strategy of theirs: by which key, once under which idempotency key."""

    user_id: str
    actor: str
    via: str
    once: Once


def define(desk: Desk, who: Who, name: str, form: SignalForm) -> Answer:
    """Make or change the strategy of that name; a new one's secret is in the answer, and nowhere else in clear.

    Switched off, what it has placed and isn't sent yet is not sent any more.
    """

    def work(unit: Unit, now: datetime) -> Answer:
        wanted = form.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        found = signals.lock_named(unit, who.user_id, name)
        secret = None
        if found is None:
            secret = signals.new_secret()
            strategy = Strategy(new_id(), who.user_id, name, _hash_of(desk, secret), wanted, 1, now, now)
            if signals.insert(unit, strategy, who.actor):
                return _made(desk, who, strategy.id, secret)
            found, secret = signals.lock_named(unit, who.user_id, name), None  # another request was a little faster
        if found is None:
            raise NotFound("signal strategy", name)  # and a third one took it away
        signals.save(unit, found.id, wanted, now, who.actor)
        if not form.enabled:
            signals.revoke(unit, found.id, desk.now())
        return {"id": found.id, "created": False, "secret": None}

    return _once(desk, who, "signals.define", name, work)


def rotate(desk: Desk, who: Who, name: str) -> Answer:
    """A new secret; the old one is none from now on, and what it has let in and isn't sent is not sent. Raises NotFound."""

    def work(unit: Unit, now: datetime) -> Answer:
        found = _found(unit, who, name)
        secret = signals.new_secret()
        signals.change_secret(unit, found.id, _hash_of(desk, secret), now, who.actor)
        signals.revoke(unit, found.id, desk.now())  # after its lock was had: all that was accepted before is meant
        return _made(desk, who, found.id, secret)

    return _once(desk, who, "signals.rotate", name, work)


def remove(desk: Desk, who: Who, name: str) -> Answer:
    """Take the strategy away; its orders that aren't sent yet are not sent. Raises NotFound."""

    def work(unit: Unit, now: datetime) -> Answer:
        found = _found(unit, who, name)
        signals.remove(unit, found.id)
        signals.revoke(unit, found.id, desk.now())
        return {"id": found.id, "created": False, "secret": None}

    return _once(desk, who, "signals.remove", name, work)


def find(desk: Desk, user: str, name: str, presented: str | None) -> Strategy | None:
    """The strategy whose secret was presented; None where there is no such strategy, or the secret is another."""
    with desk.store.unit() as unit:
        found = signals.find(unit, user, name)
    known = found.secret_hash if found is not None else bytes(32)
    given = (presented or "")[: signals.SECRET_MAX]
    is_right = hmac.compare_digest(known, _hash_of(desk, given))
    return found if is_right else None


def note_refused(desk: Desk, strategy: Strategy, signal_id: str, code: str, words: str) -> None:
    """Write down a delivery that didn't get as far as the intake, for its user to see."""
    delivery = Delivery(
        id=signal_id,
        strategy_id=strategy.id,
        at=desk.now(),
        status=SignalStatus.REFUSED,
        reason_code=code,
        reason=words[:WORDS_MAX],
    )
    with desk.store.unit() as unit:
        signals.note(unit, delivery)
        crash("signals.refused.before_commit")


def _once(desk: Desk, who: Who, action: str, name: str, work: Callable[[Unit, datetime], Answer]) -> Answer:
    return with_tries(lambda: _written(desk, who, action, name, work), tries=TRIES, busy="the database is busy; try again")


def _written(desk: Desk, who: Who, action: str, name: str, work: Callable[[Unit, datetime], Answer]) -> Answer:
    now = desk.now()
    with desk.store.unit() as unit:
        kept = acts.begin(unit, who.once, now)
        if kept is None:
            kept = work(unit, now)
            audit.write(unit, now, who.actor, action, f"signals/{name}", {"strategy": kept["id"], "via": who.via})
            acts.keep(unit, who.once, kept)
            crash("signals.before_commit")
            is_replay = False
        else:
            is_replay = True
    crash("signals.after_commit")
    return {**kept, "secret": _opened(desk, who, kept["secret"]), "replayed": is_replay}


def _found(unit: Unit, who: Who, name: str) -> Strategy:
    found = signals.lock_named(unit, who.user_id, name)
    if found is None:
        raise NotFound("signal strategy", name)
    return found


def _made(desk: Desk, who: Who, strategy_id: str, secret: str) -> Answer:
    sealed = seal(desk.environment.secret, place=_place(who), values={"secret": secret})
    return {"id": strategy_id, "created": True, "secret": sealed.hex()}


def _opened(desk: Desk, who: Who, sealed: str | None) -> str | None:
    if sealed is None:
        return None
    return unseal(desk.environment.secret, place=_place(who), sealed=bytes.fromhex(sealed))["secret"]


def _place(who: Who) -> str:
    """What a sealed secret in a kept answer is bound to."""
    return f"acts/{who.user_id}/{who.once.key}/answer"


def _hash_of(desk: Desk, secret: str) -> bytes:
    return signals.hash_of(secret, desk.environment.secret.encode())
