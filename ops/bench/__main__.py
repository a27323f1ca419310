"""`make bench`: measures the stack on this machine, prints tables and writes .run/bench.json."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from ops.bench.bed import ROOT, Bed
from ops.bench.comparison import Shape
from ops.bench.report import document, show, write
from ops.bench.scenarios import DEFAULT, SCENARIOS, SHORT, Bench, Lengths
from ops.interrupts import Interrupted, handling_interrupts
from ops.runfolder import FolderProblem
from ops.stack import PROJECT
from ops.supervisor import ProcessFailed

RESULT = PROJECT / ".run" / "bench.json"
INTERRUPTED = 130
WIDTH = 120  # where the output is no terminal


def main() -> int:
    """0 when every target's least is met, 1 when one isn't, 2 when nothing could be measured.

    A short run says too little of targets: there 0 means that every scenario gave its figures and nothing was lost.
    """
    wanted = _arguments()
    console = Console(stderr=wanted.json, width=None if sys.stdout.isatty() else WIDTH)
    began = datetime.now(UTC)
    lengths = SHORT if wanted.short else Lengths()
    names = list(SCENARIOS) if wanted.full else list(DEFAULT)
    if wanted.scenario:
        names = [name for name in SCENARIOS if name in wanted.scenario]

    def note(text: str) -> None:
        console.print(text, style="dim", highlight=False)

    def say(who: str, what: str, mood: str = "plain") -> None:
        if mood == "bad":
            console.print(f"{who}: {what}", style="red", highlight=False)

    try:
        with handling_interrupts(), Bed(wanted.root, say=say, keep=wanted.keep) as bed:
            results = Bench(bed, lengths, _shape(wanted.plain), note).run(names)
    except Interrupted:
        return INTERRUPTED
    except (ProcessFailed, FolderProblem) as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 2
    found = document(results, began=began, lengths=asdict(lengths))
    write(wanted.output, found)
    show(console, results, found["host"])
    note(f"written to {wanted.output}")
    if wanted.json:
        print(wanted.output.read_text(), end="")
    if wanted.short:
        return 1 if any("error" in result or result.get("lost") for result in results.values()) else 0
    return 0 if all(verdict["holds"] for verdict in found["targets"]) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ops.bench", description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--scenario", type=_names, help=f"some of {', '.join(SCENARIOS)} (default: {', '.join(DEFAULT)})"
    )
    which.add_argument("--full", action="store_true", help="all of them; half an hour")
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes: shows that it works, no more")
    parser.add_argument("--plain", default="2x8", help="the plain chain's processes x threads, with c: classic queues")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--root", type=Path, default=ROOT, help="the run folder of the bench's own stack")
    parser.add_argument("--keep", action="store_true", help="leave that run folder behind, its logs among it")
    parser.add_argument("--json", action="store_true", help="print the document on standard output, the rest elsewhere")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return names


def _shape(text: str) -> Shape:
    processes, _, threads = text.rstrip("c").partition("x")
    return Shape(int(processes), int(threads), quorum=not text.endswith("c"))


if __name__ == "__main__":
    sys.exit(main())
