"""`coordinator`, the operator's command: the stack, the schema, the health of it all, and what is stuck."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import App, Parameter
from rich.text import Text

from ops.checkup.finding import words_of
from ops.commandline import offer_completion, run
from ops.dlq import acts, drains, look
from ops.doctor import doctor
from ops.exits import Exit, Failed
from ops.operating import DEFAULTS, Options
from ops.reconcile import reconcile
from ops.screen import Screen
from ops.settings import coordinator as settings
from ops.surroundings import look_around
from ops.switches import coordinator as switches
from ops.verify import verify

HELP = (
    "Run and look after the order coordinator.\n\n"
    "The servers are those that DATABASE_URL, RABBITMQ_URL and REDIS_URL name, else those of the stack that runs in this"
    " folder.\n\n"
    "Exit codes: 0 ok, 1 error or a check that failed, 2 usage."
)


def up(*, detach: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Start everything on this machine: servers, simulated brokers, every process; stay until Ctrl-C.

    Args:
        detach: return as soon as all is ready.
    """
    from ops import commands

    return commands.up(detached=detach)


def down() -> int:
    """Stop what `coordinator up` started."""
    from ops import commands

    return commands.down()


def status(*, options: Options = DEFAULTS) -> int:
    """Say what runs, and where; exits with 1 when nothing does."""
    from ops import commands

    return commands.status(as_json=options.json)


def migrate(*, app_role: str = "app", options: Options = DEFAULTS) -> Exit:
    """Bring the database's schema to the newest revision; connects as OWNER_DATABASE_URL.

    Args:
        app_role: the role the processes connect as; it must be there, and is granted what it needs.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from store.migrate import upgrade

    screen, around = Screen(json=options.json), look_around()
    if not around.owner_url:
        failed = Failed(Exit.USAGE, "OWNER_DATABASE_URL isn't set", mend="Name the role that owns the tables in it.")
        screen.failure(failed)
        return failed.exit_code
    try:
        before, after = upgrade(around.owner_url, app_role=app_role)
    except SQLAlchemyError as error:
        mend = (
            "Nothing was changed. See that OWNER_DATABASE_URL is right, and that the role named by --app-role exists."
        )
        screen.failure(Failed(Exit.ERROR, words_of(error), mend=mend, code="MIGRATION_FAILED"))
        return Exit.ERROR
    told = f"revision {after} already" if before == after else f"upgraded from {before or 'nothing'} to {after}"
    screen.result({"before": before, "after": after, "changed": before != after}, Text(f"schema: {told}"))
    return Exit.OK


def commands() -> App:
    """The tree of commands; database and queue libraries are imported only when one of them needs them."""
    app = App(name="coordinator", help=HELP, help_format="plaintext", version_flags=())
    app.command(up)
    app.command(down)
    app.command(status)
    app.command(migrate)
    app.command(doctor)
    app.command(reconcile)
    app.command(verify)
    switch = App(name="switch", help="Halt, restrict and resume what is sent, for anybody.", version_flags=())
    switch.command(switches.switch_show, name="show")
    switch.command(switches.switch_halt, name="halt")
    switch.command(switches.switch_reduce, name="reduce")
    switch.command(switches.switch_resume, name="resume")
    app.command(switch)
    of_all = App(name="settings", help="The settings for all.", version_flags=())
    of_all.command(settings.settings_show, name="show")
    of_all.command(settings.settings_set, name="set")
    of_all.command(settings.settings_reset, name="reset")
    app.command(of_all)
    letters = App(
        name="dlq",
        help="Orders that are stuck or unknown: look at them, send them back, park them, settle them, or give them up.",
        version_flags=(),
    )
    letters.command(look.dlq_list, name="list")
    letters.command(look.dlq_show, name="show")
    letters.command(look.dlq_explain, name="explain")
    letters.command(acts.dlq_requeue, name="requeue")
    letters.command(acts.dlq_park, name="park")
    letters.command(acts.dlq_unpark, name="unpark")
    letters.command(acts.dlq_settle, name="settle")
    letters.command(acts.dlq_discard, name="discard")
    letters.command(drains.dlq_drain, name="drain")
    letters.command(look.dlq_tidy, name="tidy")
    app.command(letters)
    offer_completion(app)
    return app


def main() -> None:
    sys.exit(run(commands(), sys.argv[1:]))
