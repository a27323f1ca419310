"""Aftermath: what follows a turned switch. What was not sent is ended, what is open cancelled, positions are closed.

Wanted in the switch's row, carried out by whoever turned it and by the sweep, step by step: each intent has a key that only
this step of this version has, so that whoever does a step again does nothing again. No client's key has a space in it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.cancels import IDS_MAX, CancelPolicy, CancelRequest, CancelSubmission
from domain.errors import CoordinatorError, KeySpent, StoreAway
from domain.events import Source
from domain.squareoff import PositionFilter, SquareOff
from domain.switches import Key, Scope, Switch
from pipeline import cancelling, squareoff
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.permits import halted_text
from store import switches

log = logging.getLogger(__name__)

NO_KEY = str(UUID(int=0))  # these intents came with no API key, so that none that is revoked ends them
LIVE_FOR = timedelta(days=7)  # no order lives longer
ROUNDS_MAX = 100  # of 10,000 orders each
CERTAIN_WITHIN = timedelta(seconds=60)  # positions are closed then, though orders are still being cancelled
Followed = dict[str, Any]


class _TurnedAgain(Exception):
    """The switch was turned since: what its new version wants is written with that, and nothing more of the old one."""


def carry_out(desk: Desk) -> int:
    """What the last changes of switches want done, as far as it can be done now; gives how many are not done yet.

    What was not sent is ended first, of all of them. What can't be done of one keeps no other back. Raises StoreAway.
    """
    end_unsent(desk)
    return sum(not _is_done(desk, _carried_out, *one) for one in _undone(desk))


def end_unsent(desk: Desk) -> None:
    """Only the first step of each, which is short however much they want. Raises StoreAway."""
    for switch, wanted, followed in _undone(desk):
        if wanted.get("unsent"):
            _is_done(desk, _unsent_ended, switch, wanted, followed)


def _undone(desk: Desk) -> list[tuple[Switch, dict[str, Any], Followed]]:
    with desk.store.unit() as unit:
        return switches.undone(unit)


def _is_done(
    desk: Desk,
    work: Callable[[Desk, Switch, dict[str, Any], Followed], bool],
    switch: Switch,
    wanted: dict[str, Any],
    followed: Followed,
) -> bool:
    """What the work says; False where it failed, and is tried again. A switch that was turned since has nothing left to do."""
    told = {"scope": switch.scope, "subject": switch.subject}
    try:
        return work(desk, switch, wanted, {**followed})
    except _TurnedAgain:
        log.info("what followed a switch ends: it was turned again", extra=told)
        return True
    except StoreAway as error:
        log.warning("what follows a switch isn't done yet: %s", error, extra=told)
    except Exception:
        log.exception("what follows a switch isn't done yet", extra=told)
    return False


def _unsent_ended(desk: Desk, switch: Switch, wanted: dict[str, Any], followed: Followed) -> bool:
    _end_unsent(desk, switch, followed)
    return True


def _carried_out(desk: Desk, switch: Switch, wanted: dict[str, Any], followed: Followed) -> bool:
    """Whether all of it is done."""
    if wanted.get("unsent"):
        _end_unsent(desk, switch, followed)
    if wanted.get("open"):
        _cancel_open(desk, switch, followed)
    if wanted.get("flatten") and "flatten" not in followed:
        if not _may_flatten(desk, switch, wanted):
            return False
        _flatten(desk, switch, followed)
    return _note(desk, switch, followed, is_last=True)


def _note(desk: Desk, switch: Switch, followed: Followed, *, is_last: bool = False) -> bool:
    """Write down how far it is. Raises _TurnedAgain."""
    with desk.store.unit() as unit:
        is_in_force = switches.follow(unit, switch, followed, desk.now() if is_last else None)
        crash("aftermath.before_commit")
    crash("aftermath.after_commit")
    if not is_in_force:
        raise _TurnedAgain
    return True


def _refuse_if_turned(desk: Desk, switch: Switch) -> None:
    """Raises _TurnedAgain."""
    with desk.store.unit() as unit:
        found = switches.get(unit, switch.key)
    if found is None or found.version != switch.version:
        raise _TurnedAgain


def _end_unsent(desk: Desk, switch: Switch, followed: Followed) -> None:
    """Until nothing is left: nobody begins to send any of it meanwhile, and what comes in is refused."""
    for _ in range(ROUNDS_MAX):
        with desk.store.unit() as unit:
            found = switches.unsent(unit, switch.key, limit=IDS_MAX)
        if not found:
            return
        by_user: dict[str, list[str]] = {}
        for user_id, order_id in found:
            by_user.setdefault(user_id, []).append(order_id)
        for user_id, order_ids in by_user.items():
            _cancel(desk, switch, "unsent", user_id, order_ids, followed)


def _cancel_open(desk: Desk, switch: Switch, followed: Followed) -> None:
    """Those whose cancel is kept waiting are among them: a switch's hurries it."""
    for user_id in _with_live(desk, switch.key, uncancelled=True):
        for _ in range(ROUNDS_MAX):
            with desk.store.unit() as unit:
                order_ids = switches.uncancelled(unit, switch.key, user_id, _first_id(desk), limit=IDS_MAX)
            if not order_ids:
                break
            _cancel(desk, switch, "open", user_id, order_ids, followed)


def _cancel(
    desk: Desk, switch: Switch, step: str, user_id: str, order_ids: list[str], followed: Followed
) -> None:
    _refuse_if_turned(desk, switch)
    done = followed.setdefault(step, [])
    key = f"switch {switch.scope}/{switch.subject} v{switch.version} {step} {user_id} {len(done)}"
    submission = CancelSubmission(
        user_id=user_id,
        key_id=NO_KEY,
        idempotency_key=key,
        fingerprint=_fingerprint(key),
        request=CancelRequest(order_ids=tuple(order_ids), policy=CancelPolicy.BEST_EFFORT),
        source=Source.OPERATOR if switch.by_operator else Source.CLIENT,
        code="HALTED",
        reason=halted_text(switch),
    )
    try:
        accepted = cancelling.accept(desk, submission)
        done.append({"intentId": accepted.intent_id, "matched": accepted.matched})
    except KeySpent as spent:  # it was done, a while ago, and not noted
        done.append({"intentId": spent.intent_id, "matched": None})
    crash("aftermath.cancelled")
    _note(desk, switch, followed)


def _may_flatten(desk: Desk, switch: Switch, wanted: dict[str, Any]) -> bool:
    """Whether no order can change the positions any more; after a while they are closed as they are."""
    since = datetime.fromisoformat(wanted["since"]) if "since" in wanted else switch.at
    return desk.now() - since > CERTAIN_WITHIN or not _with_live(desk, switch.key, uncancelled=False)


def _flatten(desk: Desk, switch: Switch, followed: Followed) -> None:
    done: list[Followed] = []
    for user_id in _users(desk, switch.key):
        _refuse_if_turned(desk, switch)
        key = f"switch {switch.scope}/{switch.subject} v{switch.version} flatten {user_id}"
        asked = squareoff.Asked(user_id, NO_KEY, key, _fingerprint(key))
        try:
            made = squareoff.accept(desk, asked, _positions(switch.key), closing=True)
        except KeySpent as spent:
            done.append({"intentId": spent.intent_id, "orders": None, "left": []})
            continue
        except StoreAway:
            raise
        except CoordinatorError as error:  # no such account any more
            log.warning("positions can't be closed: %s", error, extra={"user_id": user_id})
            continue
        if made.intent_id is not None or made.left:
            done.append({"intentId": made.intent_id, "orders": len(made.orders), "left": [dict(one) for one in made.left]})
        crash("aftermath.flattened")
    followed["flatten"] = done


def _positions(key: Key) -> SquareOff:
    match key.scope:
        case Scope.ACCOUNT:
            return SquareOff(filter=PositionFilter(account=key.subject))
        case Scope.STRATEGY:
            return SquareOff(filter=PositionFilter(strategy=key.subject.partition(":")[2]))
        case Scope.ALL | Scope.USER:
            return SquareOff(all=True)


def _users(desk: Desk, key: Key) -> list[str]:
    with desk.store.unit() as unit:
        return switches.users_of(unit, key)


def _with_live(desk: Desk, key: Key, *, uncancelled: bool) -> list[str]:
    with desk.store.unit() as unit:
        users = switches.users_of(unit, key)
        return switches.users_with_live(unit, key, users, _first_id(desk), uncancelled=uncancelled)


def _first_id(desk: Desk) -> str:
    """The least of an order that may still live: the time comes first in it."""
    return str(UUID(int=int((desk.now() - LIVE_FOR).timestamp() * 1000) << 80))


def _fingerprint(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
