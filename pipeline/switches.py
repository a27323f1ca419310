"""Switches: how one is turned, by whom, and what is written down of it.

From the commit on no order that it forbids is begun. What follows, ending what was not sent, cancelling what is open,
closing positions, is wanted in the same row and carried out by `pipeline/aftermath.py`, whoever dies meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from domain.errors import Fault, Malformed, NotAllowed, NotFound, StaleDocument
from domain.switches import ALL, EVERYTHING, Key, Mode, Scope, Switch, is_stricter, strategy_subject
from pipeline.accepting import with_tries
from pipeline.crash import crash
from pipeline.desk import Desk
from readmodel.views import moment_text
from store import acts, audit, switches, users
from store.acts import Once
from store.unit import Unit

ME = "me"
WISHES = ("unsent", "open", "flatten")
TRIES = 3  # the lock is had as soon as those who send now are done: within milliseconds, unless one hangs
_ACTIONS = {Mode.ACTIVE: "switch.resume", Mode.REDUCING: "switch.reduce", Mode.HALTED: "switch.halt"}
_STRATEGY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,63}")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who turns a switch, and from where: "command", or the API key's id. An operator's reach is everything.

    `user_id` is the caller's own, None for the operator's command. `once` makes a repeat get the first answer.
    """

    name: str
    user_id: str | None
    is_operator: bool
    via: str = "command"
    once: Once | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What is asked. `version`: only if it is the switch's; `flatten` closes MIS and NRML positions, and cancels first."""

    mode: Mode
    reason: str
    cancel_open: bool = False
    flatten: bool = False
    version: int | None = None

    def check(self) -> None:
        """Raises Malformed: whoever lets everything through wants nothing cancelled or closed."""
        said = (("/cancelOpen", self.cancel_open), ("/flatten", self.flatten))
        if self.mode is Mode.ACTIVE and (wrong := [pointer for pointer, is_said in said if is_said]):
            raise Malformed(tuple(Fault(pointer, "BAD_VALUE", "belongs to REDUCING and HALTED") for pointer in wrong))


def turn(desk: Desk, scope: Scope, subject: str, asked: Turn, by: By) -> dict[str, Any]:
    """Turn a switch; its document, or the one of before where the request's key was used already.

    Wishes of the turn before that aren't carried out yet go on, unless this one lets more through.

    Raises:
        Malformed: it wants something cancelled or closed, and everything let through.
        NotFound: there is no such user or account, or it is another's.
        NotAllowed: a trader may not halt everything, nor loosen what an operator has set.
        StaleDocument: it was turned since.
        KeyReused, StoreAway.
    """
    asked.check()
    busy = "a process that sends holds on to what the switches were; try again"
    return with_tries(lambda: _written(desk, scope, subject, asked, by), tries=TRIES, busy=busy)


def _written(desk: Desk, scope: Scope, subject: str, asked: Turn, by: By) -> dict[str, Any]:
    with desk.store.unit() as unit:
        told = _turned(unit, desk.now(), scope, subject, asked, by)
        crash("switches.before_commit")
    crash("switches.after_commit")
    return told


def _turned(unit: Unit, at: datetime, scope: Scope, subject: str, asked: Turn, by: By) -> dict[str, Any]:
    if by.once is not None and (kept := acts.begin(unit, by.once, at)) is not None:
        return {**kept, "replayed": True}
    key = key_of(unit, scope, subject, by)
    switches.lock(unit)
    before = switches.get(unit, key)
    found = before.version if before is not None else 0
    if asked.version is not None and asked.version != found:
        raise StaleDocument(f"the switch {key.scope}/{key.subject}", expected=asked.version, found=found)
    switch = _after(before, key, asked, by, at)
    own = wishes(asked, at)
    earlier = switches.unfinished(unit, key) if before is not None and not is_stricter(before.mode, asked.mode) else None
    wanted, followed = (own, {}) if earlier is None else (joined(own, earlier[0]), earlier[1])
    switches.write(unit, switch, wanted, followed)
    told = document(switch, wanted, followed, None if any(wanted.values()) else at)
    detail = {
        "from": before.mode if before is not None else Mode.ACTIVE,
        "to": switch.mode,
        "version": switch.version,
        "reason": asked.reason,
        "via": by.via,
        "cancelOpen": own["open"],
        "flatten": own["flatten"],
    }
    if goes_on := [wish for wish in WISHES if wanted[wish] and not own[wish]]:
        detail["goesOn"] = goes_on
    audit.write(unit, at, by.name, _ACTIONS[switch.mode], f"{switch.scope}/{switch.subject}", detail)
    if by.once is not None:
        acts.keep(unit, by.once, told)
    return told


def _after(before: Switch | None, key: Key, asked: Turn, by: By, at: datetime) -> Switch:
    """The switch as it is then. What an operator has set keeps the operator's words where a trader says the same again."""
    switch = Switch(
        scope=key.scope,
        subject=key.subject,
        mode=asked.mode,
        version=before.version + 1 if before is not None else 1,
        reason=asked.reason,
        by=by.name,
        by_operator=by.is_operator,
        at=at,
    )
    if before is None or by.is_operator or not before.by_operator or before.mode is Mode.ACTIVE:
        return switch
    if is_stricter(before.mode, asked.mode):
        raise NotAllowed(f"{before.by} has set it {before.mode}: an operator may loosen that, a trader may not")
    if before.mode is asked.mode:
        switch = replace(switch, reason=before.reason, by=before.by)
    return replace(switch, by_operator=True)


def wishes(asked: Turn, at: datetime) -> dict[str, Any]:
    """What follows. What is open has to be gone before positions can be closed for good: `since` when these are to be."""
    wanted: dict[str, Any] = {
        "unsent": asked.mode is Mode.HALTED,
        "open": asked.cancel_open or asked.flatten,
        "flatten": asked.flatten,
    }
    return {**wanted, "since": at.isoformat()} if asked.flatten else wanted


def joined(own: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """The wishes of a turn with those that the one before has left undone; whoever wanted it first has waited already."""
    wanted: dict[str, Any] = {wish: bool(own.get(wish) or earlier.get(wish)) for wish in WISHES}
    since = earlier.get("since") or own.get("since")
    return {**wanted, "since": since} if since else wanted


def key_of(unit: Unit, scope: Scope, subject: str, by: By) -> Key:
    """The switch that is meant: a user by id, by name or as `me`, a strategy with its user before a colon, or alone.

    Raises NotAllowed and NotFound.
    """
    match scope:
        case Scope.ALL:
            if not by.is_operator:
                raise NotAllowed("only operators and admins may switch everything")
            if subject != EVERYTHING:
                raise NotFound("switch", f"ALL/{subject}")
            return ALL
        case Scope.USER:
            return Key(Scope.USER, _user(unit, subject, by))
        case Scope.ACCOUNT:
            owner = switches.users_of(unit, Key(Scope.ACCOUNT, subject))
            if not owner or not (by.is_operator or owner == [by.user_id]):
                raise NotFound("account", subject)
            return Key(Scope.ACCOUNT, subject)
        case Scope.STRATEGY:
            user, colon, strategy = subject.partition(":")
            if not colon or not (by.is_operator or _ID.fullmatch(user.lower()) or user == ME):
                user, strategy = ME, subject
            if not _STRATEGY.fullmatch(strategy):
                raise NotFound("strategy", subject)
            return Key(Scope.STRATEGY, strategy_subject(_user(unit, user, by), strategy))


def show(desk: Desk, by: By) -> list[dict[str, Any]]:
    """Every switch that was ever turned; for a trader, those that count for its orders."""
    with desk.store.unit() as unit:
        found = switches.read_all(unit, user_id=None if by.is_operator else by.user_id)
    return [document(*row) for row in found]


def document(
    switch: Switch, wanted: Mapping[str, Any], followed: Mapping[str, Any], carried_out_at: datetime | None
) -> dict[str, Any]:
    """What is answered. `followed`: the intents that ended unsent orders, cancelled open ones, closed positions."""
    return {
        "scope": switch.scope,
        "subject": switch.subject,
        "mode": switch.mode,
        "version": switch.version,
        "reason": switch.reason,
        "by": switch.by,
        "byOperator": switch.by_operator,
        "at": moment_text(switch.at),
        "cancelOpen": bool(wanted.get("open")),
        "flatten": bool(wanted.get("flatten")),
        "followed": {name: list(followed.get(name, ())) for name in ("unsent", "open", "flatten")},
        "carriedOutAt": moment_text(carried_out_at) if carried_out_at is not None else None,
    }


def _user(unit: Unit, text: str, by: By) -> str:
    if text == ME or (by.user_id is not None and text.lower() == by.user_id):
        if by.user_id is None:
            raise NotFound("user", text)
        return by.user_id
    found = users.find(unit, text.lower() if _ID.fullmatch(text.lower()) else text) if by.is_operator else None
    if found is None:
        raise NotFound("user", text)
    return found


