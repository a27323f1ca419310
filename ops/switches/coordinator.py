"""`coordinator switch`: everybody's orders halted, restricted and resumed, straight on the database: no door is needed."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Literal

from ops.answers import Json
from ops.dlq.here import desk_here
from ops.exits import Exit
from ops.operating import DEFAULTS, Options
from ops.screen import Screen
from ops.switches import look

if TYPE_CHECKING:
    from pipeline.desk import Desk
    from pipeline.switches import By

Scope = Literal["all", "user", "account", "strategy"]


def switch_show(*, options: Options = DEFAULTS) -> Exit:
    """Every switch that was ever turned: its mode, who turned it and why, and what followed."""
    from pipeline import switches

    with desk_here(options) as (screen, desk):
        return look.show(screen, switches.show(desk, switches.By(name="", user_id=None, is_operator=True)))


def switch_halt(
    scope: Scope,
    subject: str | None = None,
    /,
    *,
    stopping: look.Stopping,
    operator: str | None = None,
    options: Options = DEFAULTS,
) -> Exit:
    """Send nothing more; what was not sent yet is ended within a second. Cancels still pass.

    Works on the database itself, also while no web process does.

    Args:
        scope: everything (all), a user, an account, or a user's strategy.
        subject: a user's name or id, an account's id, or USER:STRATEGY; not needed for all.
        operator: who; the user of this machine when not given.
    """
    return _turn("HALTED", scope, subject, stopping, operator, options)


def switch_reduce(
    scope: Scope,
    subject: str | None = None,
    /,
    *,
    stopping: look.Stopping,
    operator: str | None = None,
    options: Options = DEFAULTS,
) -> Exit:
    """Send only orders that make a position smaller, never more than the position. Cancels still pass.

    Args:
        scope: everything (all), a user, an account, or a user's strategy.
        subject: a user's name or id, an account's id, or USER:STRATEGY; not needed for all.
        operator: who; the user of this machine when not given.
    """
    return _turn("REDUCING", scope, subject, stopping, operator, options)


def switch_resume(
    scope: Scope,
    subject: str | None = None,
    /,
    *,
    reason: str,
    operator: str | None = None,
    options: Options = DEFAULTS,
) -> Exit:
    """Send everything again.

    Args:
        scope: everything (all), a user, an account, or a user's strategy.
        subject: a user's name or id, an account's id, or USER:STRATEGY; not needed for all.
        reason: why; it is recorded in the audit log.
        operator: who; the user of this machine when not given.
    """
    return _turn("ACTIVE", scope, subject, look.Stopping(reason=reason), operator, options)


def _turn(
    mode: str, scope: str, subject: str | None, stopping: look.Stopping, operator: str | None, options: Options
) -> Exit:
    from domain.switches import Mode
    from domain.switches import Scope as ScopeOf
    from pipeline import switches

    with desk_here(options) as (screen, desk):
        whom = look.subject_of(scope, subject)
        asked = switches.Turn(
            mode=Mode(mode),
            reason=look.reason_given(stopping.reason),
            cancel_open=stopping.cancel_open,
            flatten=stopping.flatten,
        )
        by = switches.By(name=operator or getpass.getuser(), user_id=None, is_operator=True)
        told = switches.turn(desk, ScopeOf(scope.upper()), whom, asked, by)
        if screen.json:
            return look.tell(screen, _followed(screen, desk, by, told))
        look.tell(screen, told)  # it counts from here on; what follows may take a while
        now = _followed(screen, desk, by, told)
        if what := look.what_followed(now):
            screen.note(what)
        return Exit.OK


def _followed(screen: Screen, desk: Desk, by: By, told: Json) -> Json:
    """The switch after what follows was begun. Where that can't be done here the turn stands, and the clock does the rest."""
    from domain.errors import StoreAway
    from pipeline import aftermath, switches

    try:
        aftermath.carry_out(desk)
        return next(row for row in switches.show(desk, by) if (row["scope"], row["subject"]) == (told["scope"], told["subject"]))
    except StoreAway as error:
        screen.note(f"it is turned, and the clock does what follows: {error}")
        return told
