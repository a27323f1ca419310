"""`trader settings`: one's own, over REST."""

from __future__ import annotations

from domain.ids import new_id
from ops.exits import Exit
from ops.session import DEFAULTS, Options, session
from ops.settings import look


def settings_show(name: str | None = None, /, *, options: Options = DEFAULTS) -> Exit:
    """Your settings: each with its meaning, unit, range and default.

    Args:
        name: only this one.
    """
    from domain.settings import UserSettings

    with session(options) as here:
        return look.show(here.screen, UserSettings, here.client.settings(), name)


def settings_set(name: str, value: str, /, *, options: Options = DEFAULTS) -> Exit:
    """Change one of your settings; it counts everywhere within two seconds.

    Args:
        name: defaultBroker, allowPartialMultiOrder, readConsistency or autoRetryOnNetworkFailure.
        value: a word, a number, true or false, none, or JSON; `settings show` tells what each takes.
    """
    from domain.settings import UserSettings

    with session(options) as here:
        one = look.named(UserSettings, name)
        told = here.client.change_settings(look.changes_to(one, value), f"settings-{new_id()}")
        return look.tell(here.screen, UserSettings, told, name)


def settings_reset(name: str, /, *, options: Options = DEFAULTS) -> Exit:
    """Take one of your settings back to its default.

    Args:
        name: defaultBroker, allowPartialMultiOrder, readConsistency or autoRetryOnNetworkFailure.
    """
    from domain.settings import UserSettings

    with session(options) as here:
        one = look.named(UserSettings, name)
        told = here.client.change_settings({"reset": [one.name]}, f"settings-{new_id()}")
        return look.tell(here.screen, UserSettings, told, name)
