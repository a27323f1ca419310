"""What a person can do with the stack: `python -m ops.stack services`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path

from ops.background import Report, detach
from ops.console import Console
from ops.interrupts import Interrupted, handling_interrupts
from ops.runfolder import FolderProblem, RunFolder
from ops.services import Services
from ops.supervisor import ProcessFailed


def services(root: Path, report: Report | None = None, *, fast: bool = False) -> int:
    """Run the three servers alone until we are told to stop; their urls are in `services.json` of the run folder."""
    vhosts = ("/", *(f"gw{number}" for number in range(4)))
    with handling_interrupts() as interrupts:
        try:
            with Services(root, fast=fast, say=Console(), vhosts=vhosts) as running:
                running.folder.write_json("services.json", asdict(running.urls) | {"supervisor": os.getpid()})
                for name, url in asdict(running.urls).items():
                    print(f"{name}={url}", flush=True)
                if report:
                    report("")
                interrupts.wait()
        except Interrupted:
            return 0
        except (ProcessFailed, FolderProblem) as error:
            (report or print)(str(error))
            return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.stack")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("services", help="run PostgreSQL, Valkey and RabbitMQ alone")
    command.add_argument("--root", type=Path, default=Path(".run-dev"))
    command.add_argument("--fast", action="store_true", help="force nothing onto the disk (tests)")
    command.add_argument("--detach", action="store_true", help="return when all are ready")
    arguments = parser.parse_args()
    if not arguments.detach:
        return services(arguments.root, fast=arguments.fast)
    folder = RunFolder(arguments.root)
    reason = detach(lambda report: services(arguments.root, report, fast=arguments.fast), folder.logs / "supervisor.log")
    if reason:
        print(reason, file=sys.stderr)
        return 1
    print((folder.root / "services.json").read_text(), end="")
    return 0
