"""`trader`, the client's command: every word of it, and which function it is. Speaks REST only."""

from __future__ import annotations

import sys

from cyclopts import App

from ops import cancelling, modifying, placing, previewing, profile_commands, reading, schedules, signals, squareoff
from ops.commandline import offer_completion, run
from ops.settings import trader as settings
from ops.switches import trader as switches

HELP = (
    "Place orders at your brokers, and see what became of them.\n\n"
    "The coordinator is found by --profile, else by TRADER_URL and TRADER_KEY, else by `trader profile use`, else it is"
    " the stack that runs in this folder.\n\n"
    "Exit codes: 0 ok, 1 error, 2 usage, 3 some lines rejected (or not cancelled, not modified), 4 all of them,"
    " 5 outcome not known yet, 7 unreachable."
)


def commands() -> App:
    """The tree of commands; the HTTP library is imported only when one of them is called."""
    app = App(name="trader", help=HELP, help_format="plaintext", version_flags=())
    order = App(name="order", help="Place, modify and cancel orders, and look at one.", version_flags=())
    order.command(placing.place_multi, name="place-multi")
    order.command(previewing.order_preview, name="preview")
    order.command(modifying.order_modify, name="modify")
    order.command(cancelling.order_cancel, name="cancel")
    order.command(cancelling.cancel_multi, name="cancel-multi")
    order.command(reading.order_show, name="show")
    order.command(reading.order_explain, name="explain")
    order.command(reading.order_trades, name="trades")
    intent = App(name="intent", help="Look at what one request asked for.", version_flags=())
    intent.command(reading.intent_show, name="show")
    intent.command(reading.intent_watch, name="watch")
    profile = App(name="profile", help="The coordinators you work with, by name.", version_flags=())
    profile.command(profile_commands.profile_list, name="list")
    profile.command(profile_commands.profile_set, name="set")
    profile.command(profile_commands.profile_use, name="use")
    positions = App(name="positions", help="Close positions.", version_flags=())
    positions.command(squareoff.square_off, name="square-off")
    schedule = App(name="schedule", help="What is to be cancelled at a time.", version_flags=())
    schedule.command(schedules.schedule_show, name="show")
    schedule.command(schedules.schedule_remove, name="remove")
    signal = App(name="signal", help="Webhooks of charting programs: each signal becomes one order.", version_flags=())
    signal.command(signals.signal_set, name="set")
    signal.command(signals.signal_list, name="list")
    signal.command(signals.signal_show, name="show")
    signal.command(signals.signal_received, name="received")
    signal.command(signals.signal_rotate, name="rotate")
    signal.command(signals.signal_remove, name="remove")
    for group in (order, intent, positions, schedule, signal, profile):
        app.command(group)
    app.command(reading.orders)
    app.command(reading.trades)
    app.command(reading.intents)
    app.command(schedules.schedules)
    app.command(reading.brokers)
    switch = App(name="switch", help="Halt, restrict and resume what is sent for you.", version_flags=())
    switch.command(switches.switch_show, name="show")
    switch.command(switches.switch_halt, name="halt")
    switch.command(switches.switch_reduce, name="reduce")
    switch.command(switches.switch_resume, name="resume")
    own = App(name="settings", help="Your own settings.", version_flags=())
    own.command(settings.settings_show, name="show")
    own.command(settings.settings_set, name="set")
    own.command(settings.settings_reset, name="reset")
    app.command(switch)
    app.command(own)
    app.command(reading.version, name=("version", "--version"))
    offer_completion(app)
    return app


def main() -> None:
    sys.exit(run(commands(), sys.argv[1:]))
