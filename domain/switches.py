"""Switches: what may be sent for everybody, a user, an account or a user's strategy. The strictest that applies counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

EVERYTHING = "all"  # the subject of the scope ALL


class Mode(StrEnum):
    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"  # only orders that make a position smaller are sent
    HALTED = "HALTED"  # none is; cancels always are


class Scope(StrEnum):
    ALL = "ALL"
    USER = "USER"
    ACCOUNT = "ACCOUNT"
    STRATEGY = "STRATEGY"  # of one user


_STRICTNESS = {Mode.ACTIVE: 0, Mode.REDUCING: 1, Mode.HALTED: 2}
_NARROWNESS = {Scope.ALL: 0, Scope.USER: 1, Scope.ACCOUNT: 2, Scope.STRATEGY: 3}


class Key(NamedTuple):
    """Whom a switch is for. A strategy's subject is `<user id>:<strategy>`."""

    scope: Scope
    subject: str


ALL = Key(Scope.ALL, EVERYTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One switch as it stands. `version` counts its changes; `by_operator`: only an operator may loosen it."""

    scope: Scope
    subject: str
    mode: Mode
    version: int
    reason: str
    by: str
    by_operator: bool
    at: datetime

    @property
    def key(self) -> Key:
        return Key(self.scope, self.subject)

    @property
    def named(self) -> str:
        """Such as "account UP0001", "strategy momentum", "the user", "everything"."""
        match self.scope:
            case Scope.ALL:
                return "everything"
            case Scope.USER:
                return "the user"
            case Scope.ACCOUNT:
                return f"account {self.subject}"
            case Scope.STRATEGY:
                return f"strategy {self.subject.partition(':')[2]}"


def strategy_subject(user_id: str, strategy: str) -> str:
    return f"{user_id}:{strategy}"


def keys_for(user_id: str, account_id: str | None, strategy: str | None) -> tuple[Key, ...]:
    """Whose switches count for an order."""
    keys = [ALL, Key(Scope.USER, user_id)]
    if account_id is not None:
        keys.append(Key(Scope.ACCOUNT, account_id))
    if strategy is not None:
        keys.append(Key(Scope.STRATEGY, strategy_subject(user_id, strategy)))
    return tuple(keys)


def strictest(switches: Mapping[Key, Switch], keys: Iterable[Key]) -> Switch | None:
    """The switch that counts: the strictest of these, of equal ones the widest; None where all are ACTIVE."""
    applying = [switch for key in keys if (switch := switches.get(key)) is not None and switch.mode is not Mode.ACTIVE]
    if not applying:
        return None
    return max(applying, key=lambda switch: (_STRICTNESS[switch.mode], -_NARROWNESS[switch.scope]))


def is_stricter(mode: Mode, than: Mode) -> bool:
    return _STRICTNESS[mode] > _STRICTNESS[than]
