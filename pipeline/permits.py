"""Permits: what the switches let through of a batch; under REDUCING what makes a position smaller, and never more than it.

Asked twice for each order: when the intake group judges it, and at the last gate. Both ask inside the transaction that
acts on it, so that after a switch's commit nothing begins that it forbids.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from domain.orders import Order
from domain.reducing import Place, Standing, find_breach, needs_standing
from domain.switches import Key, Mode, Switch, keys_for, strictest
from domain.verdicts import Reject
from store import accounts, orders, standings, switches
from store.unit import Unit


@dataclass(slots=True)
class Permits:
    """The switches that count for a batch. What an order that passes takes of a position, the next one lacks."""

    switches: Mapping[Key, Switch]
    closing: Collection[str] = ()  # intents that were made to close positions: a halt lets through what reduces
    standings: Mapping[Place, Standing] = field(default_factory=dict)  # read under their accounts' locks

    def judge(self, order: Order, account_id: str, instrument: str) -> Reject | None:
        """Why the order may not go on; nothing is taken by it."""
        switch = self.counting(order, account_id)
        if switch is None:
            return None
        if switch.mode is Mode.HALTED and order.intent_id not in self.closing:
            return Reject("HALTED", (halted_text(switch),))
        place = Place(order.user_id, account_id, instrument, order.product)
        breach = find_breach(place, order.side, order.quantity, self.standings.get(place, Standing()))
        if breach is None:
            return None
        return Reject("REDUCING_ONLY", (f"{breach}; {switch.named} is {switch.mode} ({switch.reason}, by {switch.by})",))

    def breach_of(self, order: Order) -> str | None:
        """Why what is left of an order at its broker may make a position larger; None where it only closes.

        Its fills are in the position already, and what is left of it is among what is under way: that is its own.
        """
        place = Place(order.user_id, order.account_id or "", order.instrument, order.product)
        left = order.pending_quantity
        return find_breach(place, order.side, left, self.standings.get(place, Standing()).beside(order.side, left))

    def take(self, order: Order, account_id: str, instrument: str) -> None:
        """What the order may fill is under way from now on."""
        if not self.standings:
            return
        standing = self.standings.get(Place(order.user_id, account_id, instrument, order.product))
        if standing is not None:
            standing.take(order.side, order.quantity)

    def counting(self, order: Order, account_id: str | None) -> Switch | None:
        if not self.switches:
            return None
        return strictest(self.switches, keys_for(order.user_id, account_id, order.strategy))


def halted_text(switch: Switch) -> str:
    return f"{switch.named} is HALTED since {switch.at.isoformat(timespec='seconds')} by {switch.by}: {switch.reason}"


Asked = tuple[Order, str, str]  # an order, the account and the canonical instrument it is judged for


def permits_of(unit: Unit, asked: Sequence[Asked]) -> Permits:
    """The switches that count for these orders. To be called before their accounts are locked."""
    whose = {(order.user_id, account_id, order.strategy) for order, account_id, _ in asked}
    keys = {key for one in whose for key in keys_for(*one)}
    found = switches.in_force(unit, keys) if keys else {}
    if not any(switch.mode is Mode.HALTED for switch in found.values()):
        return Permits(found)
    return Permits(found, switches.closing_intents(unit, sorted({order.intent_id for order, _, _ in asked})))


def look_at_positions(
    unit: Unit, permits: Permits, asked: Sequence[Asked], now: datetime, *, sent_only: bool = False
) -> None:
    """Read the positions that these orders' switches make a question of. To be called under their accounts' locks.

    What the orders themselves may fill isn't under way yet; with `sent_only` it is, as far as they were sent.
    """
    own = () if sent_only else [order.id for order, _, _ in asked]
    permits.standings = standings.read(unit, places_in_question(permits, asked), now, without=own, sent_only=sent_only)


def permits_at_gate(unit: Unit, asked: Sequence[Asked], now: datetime) -> Permits:
    """The switches and positions that count where calls begin. What was sent comes before what still waits."""
    permits = permits_of(unit, asked)
    lock_accounts(unit, permits, asked)
    look_at_positions(unit, permits, asked, now, sent_only=True)
    return permits


def lock_accounts(unit: Unit, permits: Permits, asked: Sequence[Asked]) -> None:
    """Lock the accounts whose positions are in question: after the parents of slices, as everywhere."""
    places = places_in_question(permits, asked)
    if not places:
        return
    parents = {order.parent_id for order, _, _ in asked if order.parent_id is not None}
    if parents:
        orders.lock(unit, sorted(parents))
    accounts.lock(unit, sorted({place.account_id for place in places}))


def places_in_question(permits: Permits, asked: Iterable[Asked]) -> set[Place]:
    if not permits.switches:
        return set()
    return {
        Place(order.user_id, account_id, instrument, order.product)
        for order, account_id, instrument in asked
        if needs_standing(order.product) and _is_bound(permits, order, account_id)
    }


def _is_bound(permits: Permits, order: Order, account_id: str) -> bool:
    """Whether it depends on a position if the order goes on."""
    switch = permits.counting(order, account_id)
    return switch is not None and (switch.mode is Mode.REDUCING or order.intent_id in permits.closing)
