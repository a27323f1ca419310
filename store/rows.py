"""Rows: many rows as one statement's parameters, a column that is the same in all of them only once.

Most columns of a batch are: it moves orders from one state to another at one moment. PostgreSQL would read each value of an
array, and store it in between, as often as there are rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from store.json import storable
from store.unit import array, text_array

# Of columns: `text` is any text, `word` text that needs no quoting, `json` JSON as text. None is NULL in all of them.
_TYPES = {"word": "text"}
_SEPARATOR = "\x1e"  # JSON has it only escaped
_SPLIT_JSON = r"string_to_array(%s, E'\x1e', '')::json[]"


class Rows:
    """What stands for a table in a statement: `from {rows.sql}` names it v, with columns of these names and kinds.

    The first column tells how many rows there are; it is a key, and never NULL.
    """

    def __init__(self, **kinds: str) -> None:
        self._kinds = tuple(kinds.values())
        first, *others = kinds
        types = {name: _TYPES.get(kind, kind) for name, kind in kinds.items()}
        arrays = [_SPLIT_JSON if type_ == "json" else f"%s::{type_}[]" for type_ in types.values()]
        columns = [f"u.{first}", *(f"coalesce(u.{name}, %s::{types[name]}) as {name}" for name in others)]
        self.names = ", ".join(kinds)
        self.sql = f"(select {', '.join(columns)} from unnest({', '.join(arrays)}) as u ({self.names})) v"  # noqa: S608 - names

    def parameters(self, first: Sequence[object], *others: Sequence[object]) -> list[str | None]:
        """For the placeholders of `sql`, in their order, of as many values for each column as there are rows."""
        same: list[str | None] = []
        arrays = [_array(self._kinds[0], first)]
        for kind, values in zip(self._kinds[1:], others, strict=True):
            value = values[0] if values else None  # no rows are a table, too
            if values.count(value) == len(values):
                same.append(None if value is None else storable(str(value)))
                arrays.append("" if kind == "json" else "{}")
            else:
                same.append(None)
                arrays.append(_array(kind, values))
        return [*same, *arrays]


def _array(kind: str, values: Sequence[object]) -> str:
    if kind == "json":
        return _SEPARATOR.join(["" if value is None else str(value) for value in values])
    return text_array(values) if kind == "text" else array(values)  # type: ignore[arg-type]
