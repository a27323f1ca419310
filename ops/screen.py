"""The two places a command writes to: its result on standard output, everything else on standard error."""

from __future__ import annotations

import json as jsonlib
import os
import sys

from rich.console import Console, RenderableType
from rich.text import Text

from ops.answers import Json
from ops.exits import Failed

WIDE = 250  # where nobody looks at a terminal, nothing is cut


class Screen:
    """With `json`, standard output carries documents only: one, or one a line for a stream."""

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self.out, self.err = _console(stderr=False), _console(stderr=True)

    def note(self, text: str) -> None:
        self.err.print(text, markup=False, highlight=False, soft_wrap=True, style="bright_black")

    def result(self, document: Json, *parts: RenderableType) -> None:
        """The document for a program, or the parts for a person."""
        if self.json:
            print(jsonlib.dumps(document, ensure_ascii=False, indent=2))
            return
        for part in parts:
            self.out.print(part, markup=False, highlight=False)

    def row(self, document: Json) -> None:
        """One document of a stream, on a line of its own and flushed."""
        print(jsonlib.dumps(document, ensure_ascii=False, separators=(",", ":")), flush=True)

    def failure(self, failed: Failed, *, lines: tuple[str, ...] = (), document: Json | None = None) -> None:
        """What went wrong, where, and the mend; with `json` the document on standard output, too."""
        code = "" if failed.code == failed.exit_code.name else f" {failed.code}"
        told = Text.assemble(("error", "bold red"), (code, "bold"), ": ", failed.message)
        self.err.print(told, highlight=False, soft_wrap=True)
        for line in (*lines, *failed.mend.splitlines()):
            self.err.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        if self.json:
            shown = document or {"code": failed.code, "detail": failed.message}
            print(jsonlib.dumps(shown, ensure_ascii=False, indent=2))


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDE
    return Console(stderr=stderr, width=width, highlight=False, emoji=False)
