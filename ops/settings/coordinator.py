"""`coordinator settings`: the settings for all, straight on the database."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import TYPE_CHECKING

from ops.answers import Json
from ops.dlq.here import desk_here
from ops.exits import Exit
from ops.operating import DEFAULTS, Options
from ops.settings import look

if TYPE_CHECKING:
    from domain.setting_names import Described

ADMIN = "admin"


def settings_show(name: str | None = None, /, *, options: Options = DEFAULTS) -> Exit:
    """The settings for all: each with its meaning, unit, range and default.

    Args:
        name: only this one, such as maxUnsentSec or limits.quantityMax.
    """
    from domain.settings import Settings
    from pipeline import settings

    with desk_here(options) as (screen, desk):
        return look.show(screen, Settings, settings.show(desk, ADMIN), name)


def settings_set(name: str, value: str, /, *, operator: str | None = None, options: Options = DEFAULTS) -> Exit:
    """Change one setting for all; it counts everywhere within two seconds, and is recorded with its old value.

    Args:
        name: its name, such as maxUnsentSec or limits.quantityMax; `settings show` lists them all.
        value: a word, a number, true or false, none, or JSON; `settings show` tells what each takes.
        operator: who; the user of this machine when not given.
    """
    return _change(name, operator, options, lambda one: look.changes_to(one, value))


def settings_reset(name: str, /, *, operator: str | None = None, options: Options = DEFAULTS) -> Exit:
    """Take one setting back to its default.

    Args:
        name: its name, such as maxUnsentSec or limits.quantityMax.
        operator: who; the user of this machine when not given.
    """
    return _change(name, operator, options, lambda one: {"reset": [one.name]})


def _change(name: str, operator: str | None, options: Options, asked: Callable[[Described], Json]) -> Exit:
    from domain.setting_names import read_changes
    from domain.settings import Settings
    from pipeline import settings

    with desk_here(options) as (screen, desk):
        changes = read_changes(Settings, asked(look.named(Settings, name)))
        told = settings.change(desk, ADMIN, changes, settings.By(name=operator or getpass.getuser()))
        return look.tell(screen, Settings, told, name)
