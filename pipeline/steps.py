"""The intake group's four stages, wired: what each is given of a batch's facts, how often it tries, what undoes it."""

from __future__ import annotations

from domain.market import trading_day
from domain.orders import Order
from domain.reference import reference_levels
from domain.verdicts import Verdict
from pipeline.intake_group import Facts, Step
from pipeline.stage import Policy
from pipeline.stages import margin, risk, route, validate


def judge_validity(order: Order, facts: Facts) -> Verdict:
    return validate.decide(order, facts.kept["validate"])


def judge_risk(order: Order, facts: Facts) -> Verdict:
    return risk.decide(order, facts.kept["risk"])


def judge_margin(order: Order, facts: Facts) -> Verdict:
    return margin.decide(order, facts.kept["margin"])


def judge_route(order: Order, facts: Facts) -> Verdict:
    return route.decide(order, facts.choices[order.id], facts.now, facts.defaults.get(order.user_id))


def undo_risk(order: Order, facts: Facts) -> None:
    risk.undo(order, facts.totals[order.account_id or ""])


def undo_margin(order: Order, facts: Facts) -> None:
    margin.undo(order, facts.totals[order.account_id or ""])


def validate_facts(facts: Facts) -> validate.Facts:
    return validate.Facts(
        instruments=facts.instruments,
        now=facts.now,
        calendars={account.id: account.calendar for account in facts.choices.values()},
        capabilities=facts.capabilities,
    )


def risk_facts(facts: Facts) -> risk.Facts:
    return risk.Facts(
        instruments=facts.instruments, totals=facts.totals, limits=risk.RiskLimits.of(facts.settings), now=facts.now
    )


def margin_facts(facts: Facts) -> margin.Facts:
    return margin.Facts(
        instruments=facts.instruments,
        totals=facts.totals,
        trade_date=trading_day(facts.now),
        buffer_ppm=facts.settings.margin_buffer_ppm,
        underlying_prices=reference_levels(),
    )


STEPS = (
    Step("validate", Policy(5, (200, 5_000)), judge_validity, prepare=validate_facts),
    Step("risk", Policy(5, (200, 5_000)), judge_risk, prepare=risk_facts, undo=undo_risk),
    Step("margin", Policy(5, (200, 5_000)), judge_margin, prepare=margin_facts, undo=undo_margin),
    Step("route", Policy(20, (200, 10_000)), judge_route),
)
