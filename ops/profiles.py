"""Which coordinator a command talks to, and with which key.

Looked for in this order; address and key always come from the same place, so a key never goes to another's server:

1. `--profile NAME`: that profile of `~/.config/trader/profiles.toml`
2. the environment: TRADER_URL and TRADER_KEY
3. the profile chosen by `trader profile use NAME`
4. `.run/stack.json` of a stack that runs in this folder or in one above it
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ops.exits import Exit, Failed

HOW = """Do one of these:
  make run                                       start a coordinator here; its address and key are found by itself
  export TRADER_URL=http://… TRADER_KEY=…        name one for this shell
  trader profile set NAME --url http://…         write one down (asks for the key); then: trader profile use NAME"""


@dataclass(frozen=True, slots=True)
class Target:
    base_url: str
    key: str = field(repr=False)
    source: str  # where it was found, for people


@dataclass(slots=True)
class Profiles:
    """The profiles file as it stands: `current` is the one in use, or None."""

    current: str | None
    by_name: dict[str, dict[str, str]]


def find_target(
    profile: str | None, *, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Target:
    """Where to send a request, by the order above.

    Raises:
        Failed: nothing is configured, or what is named lacks its address or its key.
    """
    environment = os.environ if environment is None else environment
    if profile is not None:
        return _of_profile(profile, environment)
    url, key = environment.get("TRADER_URL"), environment.get("TRADER_KEY")
    if url and key:
        return Target(url, key, "TRADER_URL")
    if url or key:
        missing = "TRADER_KEY" if url else "TRADER_URL"
        raise Failed(Exit.USAGE, f"{missing} isn't set, its partner is", mend="TRADER_URL and TRADER_KEY go together.")
    current = read_profiles(environment).current
    if current is not None:
        return _of_profile(current, environment)
    stack = find_stack_file(folder or Path.cwd())
    if stack is not None:
        return _of_stack(stack)
    raise Failed(Exit.USAGE, "no coordinator is configured here", mend=HOW)


def profiles_path(environment: Mapping[str, str] | None = None) -> Path:
    environment = os.environ if environment is None else environment
    config = environment.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "trader" / "profiles.toml"


def read_profiles(environment: Mapping[str, str] | None = None) -> Profiles:
    path = profiles_path(environment)
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Profiles(None, {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Failed(Exit.USAGE, f"{path} can't be read: {error}", mend="Mend the file, or remove it.") from error
    named = document.get("profiles", {})
    return Profiles(document.get("current"), {name: dict(entry) for name, entry in named.items()})


def write_profiles(profiles: Profiles, environment: Mapping[str, str] | None = None) -> Path:
    """The file is replaced whole and readable by its owner only: it holds keys."""
    path = profiles_path(environment)
    lines = [f"current = {_quoted(profiles.current)}\n"] if profiles.current is not None else []
    for name, entry in sorted(profiles.by_name.items()):
        lines.append(f"\n[profiles.{_quoted(name)}]\n")
        lines += [f"{key} = {_quoted(value)}\n" for key, value in sorted(entry.items())]
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write("".join(lines))
    fresh.replace(path)
    return path


def find_stack_file(folder: Path) -> Path | None:
    """`.run/stack.json` of the nearest folder that has one, going up."""
    for place in (folder, *folder.parents):
        candidate = place / ".run" / "stack.json"
        try:
            if candidate.is_file():
                return candidate
        except PermissionError:
            continue
    return None


def _of_profile(name: str, environment: Mapping[str, str]) -> Target:
    profiles, path = read_profiles(environment), profiles_path(environment)
    entry = profiles.by_name.get(name)
    if entry is None:
        known = ", ".join(sorted(profiles.by_name)) or "none"
        raise Failed(
            Exit.USAGE,
            f"there is no profile {name!r} in {path} (known: {known})",
            mend=f"trader profile set {name} --url http://…",
        )
    if not entry.get("base_url") or not entry.get("key"):
        missing = "base_url" if not entry.get("base_url") else "key"
        raise Failed(
            Exit.USAGE, f"profile {name!r} in {path} has no {missing}", mend=f"trader profile set {name} --url …"
        )
    return Target(entry["base_url"], entry["key"], f"profile {name}")


def _of_stack(path: Path) -> Target:
    try:
        stack = json.loads(path.read_text("utf-8"))
        return Target(stack["base_url"], stack["keys"]["trader"], str(path))
    except PermissionError as error:
        raise Failed(
            Exit.USAGE, f"{path} belongs to another user", mend="Run as that user, or set TRADER_URL and TRADER_KEY."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(
            Exit.USAGE, f"{path} has no base_url or no keys.trader", mend="Start the stack again: coordinator up"
        ) from error


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are a part of TOML's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
