"""Settings as a person sees and writes them: each with its meaning, its unit, its default and its range."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ops.answers import Json
from ops.exits import Exit, Failed
from ops.screen import Screen

if TYPE_CHECKING:
    from domain.setting_names import Described, Document

NONE = ("none", "null")


def show(screen: Screen, document: Document, told: Json, name: str | None) -> Exit:
    """All of a document, or one of its settings. Raises Failed where there is none of that name."""
    from domain.setting_names import describe

    wanted = [named(document, name)] if name is not None else list(describe(document))
    changed = {str(one["name"]): one for one in told["changed"]}
    parts = []
    for one in wanted:
        value, is_default = value_of(told["settings"], one.name), one.name not in changed
        parts.append(Text.assemble((one.name, "bold"), " = ", (in_words(value), "" if is_default else "yellow")))
        parts.append(Text(f"    {one.meaning}"))
        by = "" if is_default else f"; set by {changed[one.name]['by']}"
        unit = f"{one.unit}; " if one.unit else ""
        parts.append(Text(f"    {unit}{one.range}; default {in_words(one.default)}{by}", style="bright_black"))
    screen.result(told, *parts)
    return Exit.OK


def tell(screen: Screen, document: Document, told: Json, name: str) -> Exit:
    one = named(document, name)
    value = in_words(value_of(told["settings"], one.name))
    screen.result(told, Text(f"{one.name} is {value} now, everywhere within two seconds (version {told['version']})"))
    return Exit.OK


def named(document: Document, name: str) -> Described:
    """Raises Failed naming the ones there are."""
    from domain.setting_names import by_name, describe

    found = by_name(document).get(name)
    if found is None:
        names = ", ".join(one.name for one in describe(document))
        raise Failed(Exit.USAGE, f"there is no setting {name}", mend=f"There are: {names}")
    return found


def changes_to(one: Described, value: str) -> Json:
    """The JSON document that gives a setting the value that a person has written."""
    *group, last = one.name.split(".")
    inner = {last: read(value)}
    return {group[0]: inner} if group else inner


def read(text: str) -> Any:
    """JSON where it is JSON; `none`; else the text itself, so that words need no quotes."""
    if text.lower() in NONE:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return json.loads(text)
    except ValueError:
        return text


def value_of(settings: Json, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = value[part]
    return value


def in_words(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
