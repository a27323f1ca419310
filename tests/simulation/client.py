"""The client: sends intents, repeats what it got no answer to under the same key, and remembers what it was promised."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from domain.errors import CoordinatorError
from domain.groups import GroupPolicy
from domain.intents import Acceptance, OrderLine, PlaceRequest, Submission
from domain.orders import OrderType, Product, Side

from .record.unit import Store

if TYPE_CHECKING:
    from .processes import Door
    from .world import World

PATIENCE_S = 3.0
USER_ID = "00000000-0000-7000-8000-000000000001"
KEY_ID = "00000000-0000-7000-8000-000000000002"


class Client:
    def __init__(self, world: World) -> None:
        self.world = world
        self.submissions = [self._submission(number) for number in range(world.plan.intents)]
        self.promised: dict[str, Acceptance] = {}  # by idempotency key
        self.answers: dict[str, list[Acceptance]] = {}

    @property
    def is_answered(self) -> bool:
        return len(self.promised) == len(self.submissions)

    def begin(self) -> None:
        loop, rng = self.world.loop, self.world.rng
        for submission in self.submissions:
            at = 0.0 if self.world.plan.is_calm else rng.uniform(0, 8)
            loop.at(at, partial(self._send, submission))
            if rng.random() < self.world.chances.repeats_request:
                loop.at(at + rng.uniform(0, 6), partial(self._send, submission))

    def _submission(self, number: int) -> Submission:
        rng, plan = self.world.rng, self.world.plan
        lines = [
            OrderLine.model_construct(
                correlation_id=f"c{number}-{line}",
                instrument="NSE:INFY",
                side=Side.BUY if rng.random() < 0.8 else Side.SELL,
                quantity=rng.choice((1, 5, 10, 10, 100, 250)),
                product=rng.choice((Product.CNC, Product.MIS)),
                order_type=OrderType.LIMIT,
                price=Decimal("1500.00"),
                broker=rng.choice((None, None, None, plan.brokers[-1])),
            )
            for line in range(rng.randint(1, plan.lines_max))
        ]
        request = PlaceRequest.model_construct(orders=tuple(lines), max_unsent_sec=None)
        if plan.groups:
            request = _as_group(request, Random(f"group {plan.seed} {number}"))
        return Submission(USER_ID, KEY_ID, f"idempotency-key-{number}", bytes([number] * 32), request)

    def _send(self, submission: Submission) -> None:
        """To any door that lives. Without an answer in time it is sent again, under the same key."""
        world, key = self.world, submission.idempotency_key
        doors = [process for process in world.doors if process.is_alive]
        answered = len(self.answers.get(key, ()))
        if doors:
            door = world.rng.choice(doors)
            world.loop.spawn(door, partial(self._ask, world.doors[door], submission))

        def again() -> None:
            if len(self.answers.get(key, ())) == answered:
                self._send(submission)

        world.loop.at(world.loop.now + PATIENCE_S, again)

    def _ask(self, door: Door, submission: Submission) -> None:
        world, key = self.world, submission.idempotency_key
        try:
            acceptance = door.accept(submission)
        except CoordinatorError as error:
            world.note("refused", key, error.code)
            return
        world.step("answer")
        world.note("accepted", key, acceptance.intent_id)
        self.answers.setdefault(key, []).append(acceptance)
        self.promised.setdefault(key, acceptance)
        if world.rng.random() < world.chances.cancels:
            line = world.rng.choice(acceptance.lines)
            assert world.loop.current is not None
            process, after_s = world.loop.current.process, world.rng.uniform(0, 4)
            world.loop.spawn(process, partial(self._cancel, door, line.order_id), after_s)

    def _cancel(self, door: Door, order_id: str) -> None:
        """What a cancel does first: it is asked for under the order's lock."""
        try:
            with Store(self.world.record).unit() as unit:
                unit.lock("orders", order_id)
                unit.put("orders", order_id, {**unit.get("orders", order_id), "cancel_requested": True})
        except Exception as error:  # noqa: BLE001 - it was asked for or not; both are legal
            self.world.note("no cancel", order_id, repr(error))


def _as_group(request: PlaceRequest, rng: Random) -> PlaceRequest:
    """The same lines with a policy, and some of them after earlier ones."""
    names = [line.correlation_id for line in request.orders]
    lines = [
        line.model_copy(update={"after": rng.choice(names[:number])}) if number and rng.random() < 0.4 else line
        for number, line in enumerate(request.orders)
    ]
    return request.model_copy(update={"orders": tuple(lines), "policy": rng.choice(tuple(GroupPolicy))})
