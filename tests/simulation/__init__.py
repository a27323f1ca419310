"""The deterministic simulation: one seed decides the client's wishes, everybody's misfortunes, and who runs when.

What is real: the whole pipeline. `Intake`, `Engine` with `IntakeGroup` and `OutcomeGroup`, `Dispatcher`, `make_call`,
`Settler`, `BookReader`, `apply_due`, `Sweep`, and everything they call: candidates, the judges, the last gate, persist,
the way back, evidence, strays, events, lifecycle. Nothing of it is copied or mirrored here.

What is simulated lies below it: time and threads (`loop`), the record (`record/`, a file for each of `store/`, its
functions by their names), the queue (`queue`), brokers with their books (`broker`). The limiter is `LocalBudget`, the
model in `brokers/limits.py`; Hypothesis holds the Lua scripts to it. `processes` wires them as the real processes are
wired, `plan` says what a seed means, `invariants` what must hold. `docs/simulation.md` tells more.
"""
