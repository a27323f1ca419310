"""Runs a tree of commands: its exit code from what the command gives, 2 for a line that can't be understood."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

from ops.exits import Ended, Exit
from ops.orderfile import STDIN

INTERRUPTED = 130
JSON = "--json"
Flag = Annotated[bool, Parameter(negative=())]  # given or not: there is no --no-… of it


def offer_completion(app: App) -> None:
    """Adds --install-completion; what makes the scripts is imported only when somebody asks for them."""

    def install(*, shell: Literal["bash", "zsh", "fish"] | None = None, output: Path | None = None) -> None:
        """Install completion for bash, zsh or fish.

        Args:
            shell: which one; the one this runs in when not given.
            output: where to write the script; where that shell looks for it when not given.
        """
        from cyclopts.completion.install import create_install_completion_command

        create_install_completion_command(app.install_completion, True)(shell=shell, output=output)

    app.command(install, name="--install-completion")


def run(app: App, words: Sequence[str]) -> int:
    """The exit code of one command line; `-` as a word on its own is standard input."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without ● or ₹ gets a question mark, not a traceback
    tokens = [STDIN if word == "-" else word for word in words]
    try:
        result = app(tokens, exit_on_error=False, print_error=True, help_on_error=False, result_action="return_value")
    except CycloptsError as error:
        if JSON in words:  # whoever reads documents gets one, whatever happened
            print(json.dumps({"code": Exit.USAGE.name, "detail": str(error)}, ensure_ascii=False, indent=2))
        return Exit.USAGE
    except Ended as ended:
        return ended.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `head` perhaps, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    return int(result) if isinstance(result, int) else Exit.OK
