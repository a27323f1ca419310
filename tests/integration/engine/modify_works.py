"""Works whose broker takes modifies: its book shows an order's terms, and follows what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from house import BookedBroker, House, a_row, intake_engine, utc_now
from works import Works, _pump

from brokers.base import Line, Session
from domain.changes import Change
from domain.commands import CommandKind
from domain.ids import new_id
from domain.lifecycle import TERMINAL, OrderState
from domain.modifies import ModifyAcceptance, ModifyRequest, ModifySubmission
from domain.orders import TRIGGERED
from domain.outcomes import Accepted, BookRow, Fill, Outcome, Refused, Unknown
from pipeline.modifying import accept
from pipeline.modifying_stage import ModifyGroup
from pipeline.stage import Engine
from pipeline.steps import STEPS
from store import changes, settings

PRICE = "1100.00"
PROVEN = timedelta(seconds=61)
LOST = Unknown("no whole answer in time")

Took = tuple[bool, Outcome | None]  # whether the broker does it, and what it answers; None: as it does it


def answers(answer: Outcome | None, *, does: bool = True) -> Callable[[str], Took]:
    """For `on_modify`."""
    return lambda broker_order_id: (does, answer)


def switch(house: House, mode: str) -> None:
    """The account's, turned."""
    house.run(
        "insert into switches (scope, subject, mode, version, reason, by, by_operator, at, wanted)"
        " values ('ACCOUNT', 'FK0001', %s, 1, 'enough', 'ops', true, now(), '{}')",
        mode,
    )


class ModifiableBroker(BookedBroker):
    """`on_modify` is asked before each modify; `asked` are the terms that came over, in the order of their coming."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.on_modify: Callable[[str], Took] = lambda broker_order_id: (True, None)
        self.asked: list[dict[str, Any]] = []
        self.at_rest = OrderState.OPEN

    def rest(self, account_id: str, line: Line) -> None:
        order = line.order
        row = a_row(
            order.broker_tag,
            state=OrderState.TRIGGER_PENDING if order.order_type in TRIGGERED else self.at_rest,
            quantity=order.quantity,
            price=order.price,
            trigger_price=order.trigger_price,
            order_type=order.order_type,
            validity=order.validity,
            disclosed_quantity=order.disclosed_quantity,
        )
        with self._booking:
            self.books[account_id] = [*self.books.get(account_id, ()), row]  # type: ignore[misc]

    def modify(
        self,
        session: Session,
        broker_order_id: str,
        line: Line,
        *,
        changed: Collection[str],
        timeout_s: float,
        send_by: float | None = None,
    ) -> Outcome:
        terms = {name: getattr(line.order, name) for name in changed}
        self.asked.append(terms)
        does, answer = self.on_modify(broker_order_id)
        done = self.change(broker_order_id, **terms) if does else Accepted(broker_order_id)
        return answer or done

    def change(self, broker_order_id: str, **terms: Any) -> Outcome:
        """Give a live order other terms, or fills."""
        with self._booking:
            for account_id, book in self.books.items():
                rows = list(book)  # type: ignore[arg-type]
                for number, row in enumerate(rows):
                    if row.broker_order_id == broker_order_id:
                        if row.state in TERMINAL:
                            return Refused("UDAPI100041", "Order already cancelled/rejected/completed")
                        rows[number] = _with_state(replace(row, **terms))
                        self.books[account_id] = rows
        return Accepted(broker_order_id)

    def trade(self, broker_order_id: str, quantity: int) -> None:
        """So much more of it fills."""
        row = self.row(broker_order_id)
        fill = Fill(f"T{len(row.fills)}-{broker_order_id}", "NSE", quantity, Decimal(1100), utc_now())
        self.change(
            broker_order_id,
            filled_quantity=row.filled_quantity + quantity,
            average_price=Decimal(1100),
            fills=(*row.fills, fill),
        )


def _with_state(row: BookRow) -> BookRow:
    if row.filled_quantity >= row.quantity:
        return replace(row, state=OrderState.FILLED, status="complete")
    if row.filled_quantity:
        return replace(row, state=OrderState.PARTIALLY_FILLED, status="open")
    return row


class ModifyWorks(Works):
    """Works with the stages that judge for true, and the modifies beside the cancels."""

    broker: ModifiableBroker

    def __init__(self, house: House, broker: ModifiableBroker) -> None:
        super().__init__(house, broker)
        self.intake = intake_engine(self.desk, *STEPS)
        self.modifies = Engine(self.desk, ModifyGroup(self.desk))
        self.modifier = house.changer(self.desk, CommandKind.MODIFY)

    def place(self, lines: int = 1, **terms: Any) -> list[str]:
        return super().place(lines, **{"price": PRICE, **terms})

    def modify(
        self,
        order_id: str,
        *,
        version: int = 1,
        key: str | None = None,
        fingerprint: bytes = b"m" * 32,
        user: str | None = None,
        **terms: Any,
    ) -> ModifyAcceptance:
        return accept(
            self.desk,
            ModifySubmission(
                user_id=user or self.house.user_id,
                key_id=self.house.user_id,
                idempotency_key=key or new_id(),
                fingerprint=fingerprint,
                order_id=order_id,
                if_match_version=version,
                request=ModifyRequest.model_validate(terms),
            ),
        )

    def judge(self) -> None:
        super().judge()
        self.modifies.run("modify", "-")

    def ask(self) -> None:
        super().ask()
        _pump(self.modifier)

    def asked(self, order_id: str, **terms: Any) -> ModifyAcceptance:
        """Asked for, its call made, and no book read since."""
        answer = self.modify(order_id, **terms)
        self.judge()
        self.ask()
        return answer

    def lose(self, order_id: str, *, does: bool = False, **terms: Any) -> ModifyAcceptance:
        """Asked for, and the answer lost: the broker did nothing, unless it `does`."""
        self.broker.on_modify = answers(LOST, does=does)
        return self.asked(order_id, **terms)

    def pass_time(self, by: timedelta = PROVEN) -> None:
        self.ahead += by

    def change_of(self, answer: ModifyAcceptance) -> Change:
        with self.house.store.unit() as unit:
            return changes.of(unit, [(answer.order_id, answer.seq)])[answer.order_id, answer.seq]

    def result(self, answer: ModifyAcceptance) -> str | None:
        return self.change_of(answer).result

    def set(self, name: str, value: object) -> None:
        with self.house.store.unit() as unit:
            settings.change(unit, name, value, by="test")
        self.desk.forget()

    def broker_id(self, order_id: str) -> str:
        return self.house.order(order_id).broker_order_id or ""

    def blocked(self) -> int:
        return int(self.house.rows("select sum(blocked_paise) from accounts")[0][0])
