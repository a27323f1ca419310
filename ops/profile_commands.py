"""`trader profile …`: the coordinators a person works with, by name."""

from __future__ import annotations

import sys

from rich.text import Text

from ops.exits import Exit, Failed
from ops.grid import Column, grid
from ops.profiles import Profiles, profiles_path, read_profiles, write_profiles
from ops.screen import Screen
from ops.session import DEFAULTS, Options

SHOWN_OF_KEY = 4


def profile_list(*, options: Options = DEFAULTS) -> Exit:
    """The profiles that are written down; keys are never shown whole."""
    screen = Screen(json=options.json)
    try:
        profiles = read_profiles()
    except Failed as failed:
        return _tell(screen, failed)
    rows = [
        {
            "name": name,
            "baseUrl": entry.get("base_url", ""),
            "key": _masked(entry.get("key", "")),
            "current": name == profiles.current,
        }
        for name, entry in sorted(profiles.by_name.items())
    ]
    columns = (
        Column("", lambda row: "*" if row["current"] else " "),
        Column("profile", lambda row: str(row["name"])),
        Column("address", lambda row: str(row["baseUrl"])),
        Column("key", lambda row: str(row["key"])),
    )
    shown = grid(rows, columns, width=screen.out.width) if rows else Text(f"no profiles in {profiles_path()}")
    screen.result({"profiles": rows}, shown)
    return Exit.OK


def profile_set(name: str, /, *, url: str, key: str | None = None, options: Options = DEFAULTS) -> Exit:
    """Write a profile down, or change it.

    Args:
        name: what to call it.
        url: the coordinator's address.
        key: its key; asked for, or read from standard input, when not given, so that it stays out of the shell's history.
    """
    screen = Screen(json=options.json)
    if not url.startswith(("http://", "https://")):
        return _tell(screen, Failed(Exit.USAGE, f"{url!r} is no address", mend="It begins with http:// or https://"))
    if key is None:
        key = _ask_key(name)
    if not key:
        return _tell(screen, Failed(Exit.USAGE, "no key was given"))
    try:
        profiles = read_profiles()
        profiles.by_name[name] = {"base_url": url.rstrip("/"), "key": key}
        return _written(screen, profiles, f"profile {name} is written down; to use it: trader profile use {name}")
    except Failed as failed:
        return _tell(screen, failed)


def profile_use(name: str | None = None, /, *, none: bool = False, options: Options = DEFAULTS) -> Exit:
    """Choose the profile for commands that name none.

    Args:
        name: the profile.
        none: use none again: the environment, or the stack of this folder.
    """
    screen = Screen(json=options.json)
    try:
        profiles = read_profiles()
        if (name is None) != none:
            raise Failed(Exit.USAGE, "name a profile, or say --none")
        if name is not None and name not in profiles.by_name:
            known = ", ".join(sorted(profiles.by_name)) or "none"
            raise Failed(Exit.USAGE, f"there is no profile {name!r} (known: {known})")
        profiles.current = name
        return _written(screen, profiles, f"profile {name} is in use" if name else "no profile is in use")
    except Failed as failed:
        return _tell(screen, failed)


def _written(screen: Screen, profiles: Profiles, told: str) -> Exit:
    path = write_profiles(profiles)
    screen.result({"current": profiles.current, "path": str(path)}, Text(told))
    return Exit.OK


def _ask_key(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    import getpass

    return getpass.getpass(f"key of {name}: ").strip()


def _masked(key: str) -> str:
    return f"{key[:SHOWN_OF_KEY]}…" if len(key) > 2 * SHOWN_OF_KEY else "…"


def _tell(screen: Screen, failed: Failed) -> Exit:
    screen.failure(failed)
    return failed.exit_code
