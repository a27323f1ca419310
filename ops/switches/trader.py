"""`trader switch`: one's own orders halted, restricted and resumed, over REST."""

from __future__ import annotations

from typing import Literal

from domain.ids import new_id
from ops.answers import Json, Lost
from ops.exits import Exit
from ops.session import DEFAULTS, Options, session
from ops.switches import look

Scope = Literal["user", "account", "strategy", "all"]
TRIES = 3  # with one key: it is done once


def switch_show(*, options: Options = DEFAULTS) -> Exit:
    """The switches that count for your orders: their modes, who turned them and why, and what followed."""
    with session(options) as here:
        return look.show(here.screen, here.client.switches()["switches"])


def switch_halt(
    scope: Scope = "user",
    subject: str | None = None,
    /,
    *,
    stopping: look.Stopping,
    options: Options = DEFAULTS,
) -> Exit:
    """Send nothing more; what was not sent yet is ended within a second. Cancels still pass.

    Args:
        scope: what it is for: all of yours (user), one account, or one strategy; all is for operators.
        subject: the account's or strategy's name; not needed for user and all.
    """
    return _turn("HALTED", scope, subject, stopping, options)


def switch_reduce(
    scope: Scope = "user",
    subject: str | None = None,
    /,
    *,
    stopping: look.Stopping,
    options: Options = DEFAULTS,
) -> Exit:
    """Send only orders that make a position smaller, never more than the position. Cancels still pass.

    Args:
        scope: what it is for: all of yours (user), one account, or one strategy; all is for operators.
        subject: the account's or strategy's name; not needed for user and all.
    """
    return _turn("REDUCING", scope, subject, stopping, options)


def switch_resume(
    scope: Scope = "user", subject: str | None = None, /, *, reason: str, options: Options = DEFAULTS
) -> Exit:
    """Send everything again. What an operator has halted, an operator resumes.

    Args:
        scope: what it is for: all of yours (user), one account, or one strategy; all is for operators.
        subject: the account's or strategy's name; not needed for user and all.
        reason: why; it is recorded in the audit log.
    """
    return _turn("ACTIVE", scope, subject, look.Stopping(reason=reason), options)


def _turn(mode: str, scope: str, subject: str | None, stopping: look.Stopping, options: Options) -> Exit:
    with session(options) as here:
        whom = look.subject_of(scope, subject)
        asked: Json = {
            "mode": mode,
            "reason": look.reason_given(stopping.reason),
            "cancelOpen": stopping.cancel_open,
            "flatten": stopping.flatten,
        }
        key = f"switch-{new_id()}"
        for left in reversed(range(TRIES)):
            try:
                return look.tell(here.screen, here.client.turn_switch(scope, whom, asked, key))
            except Lost as error:
                if not left:
                    raise
                here.screen.note(f"{error}; it is asked again")
        raise AssertionError("the last try returns or raises")
