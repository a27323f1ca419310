"""Tables that fit the terminal: the least important columns go first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from ops.answers import Json

KEPT = 9  # the `keep` of a column that is shown even when it is empty, and goes last
OPTIONAL = 2  # columns up to this `keep` go before the others are drawn together

Cell = Callable[[Json], Text | str]


@dataclass(frozen=True, slots=True)
class Column:
    """One column; where the terminal is narrow, it is cut to `least`, and those with the smallest `keep` go first."""

    title: str
    cell: Cell
    keep: int = KEPT
    right: bool = False
    least: int | None = None


def grid(rows: Sequence[Json], columns: Sequence[Column], *, width: int, hide_empty: bool = True) -> Table:
    """A table of at most `width` cells, as many of its columns as fit; a live one keeps its empty ones, to be calm."""
    cells = {column: [_text(column.cell(row)) for row in rows] for column in columns}
    wanted = {column: max([cell_len(column.title), *(text.cell_len for text in cells[column])]) for column in columns}
    shown = [
        column
        for column in columns
        if not hide_empty or column.keep == KEPT or any(text.plain for text in cells[column])
    ]
    while any(column.keep <= OPTIONAL for column in shown) and _roomy([wanted[column] for column in shown]) > width:
        shown.remove(min(shown, key=lambda column: column.keep))
    while (fitted := _fit({column: wanted[column] for column in shown}, width)) is None and len(shown) > 1:
        shown.remove(min(shown, key=lambda column: column.keep))
    gap, widths = fitted or (1, wanted)
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold", show_edge=False)
    for column in shown:
        justify: Literal["right", "left"] = "right" if column.right else "left"
        table.add_column(column.title, justify=justify, no_wrap=True, max_width=widths[column], overflow="ellipsis")
    for index in range(len(rows)):
        table.add_row(*(cells[column][index] for column in shown))
    return table


def _roomy(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _fit(wanted: Mapping[Column, int], width: int) -> tuple[int, dict[Column, int]] | None:
    """The gap between columns and each one's width, roomy where there is room; None where even cutting doesn't do."""
    widths, gaps = dict(wanted), len(wanted) - 1
    for gap in (2, 1):
        if sum(widths.values()) + gap * gaps <= width:
            return gap, widths
    for column in widths:
        over = sum(widths.values()) + gaps - width
        if column.least is not None and over > 0:
            widths[column] = max(min(widths[column], column.least), widths[column] - over)
    return (1, widths) if sum(widths.values()) + gaps <= width else None


def _text(cell: Text | str) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)
