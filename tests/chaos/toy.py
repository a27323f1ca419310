"""A broker whose book is true: in this process, or over HTTP for workers that die. It remembers what it took."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import orjson
from house import FakeBroker, a_row

from brokers.base import Line, Session
from brokers.transport import Answered, Deadline, NeverSent, Wire
from domain.lifecycle import OrderState
from domain.outcomes import Accepted, BookRow, NotSent, Outcome, Unknown, Unreadable

PLACED = {"quantity": "1", "price": "1200.00"}  # of every order here


@dataclass
class Truth:
    """Every order that was taken: its account, its tag and its state, in the order of their coming."""

    taken: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, account: str, tag: str) -> str:
        with self.lock:
            broker_order_id = f"B{len(self.taken) + 1}"
            row = {"id": broker_order_id, "account": account, "tag": tag, "state": "OPEN", **PLACED, "changes": "0"}
            self.taken.append(row)
            return broker_order_id

    def end(self, broker_order_id: str) -> None:
        for row in self.taken:
            if row["id"] == broker_order_id:
                row["state"] = "CANCELLED"

    def change(self, broker_order_id: str, quantity: str) -> None:
        with self.lock:
            for row in self.taken:
                if row["id"] == broker_order_id:
                    row["quantity"], row["changes"] = quantity, f"{int(row['changes']) + 1}"

    def shown(self, account: str) -> list[dict[str, str]]:
        return [row for row in self.taken if row["account"] == account]

    @property
    def book(self) -> list[dict[str, Any]]:
        """As the judge wants it."""
        words = {"OPEN": "open", "CANCELLED": "cancelled"}
        return [
            {
                "tag": row["tag"],
                "state": words[row["state"]],
                "filled": 0,
                "quantity": int(row["quantity"]),
                "price": row["price"],
            }
            for row in self.taken
        ]


class ToyBroker(FakeBroker):
    """Takes each order, then answers as told: by default with the id it gave."""

    def __init__(self, truth: Truth, after: Callable[[Line, str], Outcome] | None = None) -> None:
        super().__init__()
        self.truth, self.after = truth, after or (lambda line, broker_order_id: Accepted(broker_order_id))

    def place(
        self, session: Session, lines: Sequence[Line], *, timeout_s: float, send_by: float | None = None
    ) -> Sequence[Outcome]:
        return [
            self.after(line, self.truth.take(session.account_id, line.order.broker_tag)) for line in lines
        ]

    def book(self, session: Session, *, timeout_s: float) -> Sequence[BookRow] | Unreadable:
        return [_row(row) for row in self.truth.shown(session.account_id)]

    def cancel(
        self, session: Session, broker_order_id: str, *, timeout_s: float, send_by: float | None = None
    ) -> Outcome:
        self.truth.end(broker_order_id)
        return Accepted(broker_order_id)

    def modify(self, session: Session, broker_order_id: str, line: Line, **given: Any) -> Outcome:
        self.truth.change(broker_order_id, str(line.order.quantity))
        return Accepted(broker_order_id)


class WireBroker(FakeBroker):
    """The same over HTTP, through the one place where brokers are called."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._wire = Wire("toy", url)

    def place(
        self, session: Session, lines: Sequence[Line], *, timeout_s: float, send_by: float | None = None
    ) -> Sequence[Outcome]:
        return [self._told(self._ask(f"/take/{session.account_id}/{line.order.broker_tag}", send_by)) for line in lines]

    def book(self, session: Session, *, timeout_s: float) -> Sequence[BookRow] | Unreadable:
        match self._ask(f"/book/{session.account_id}", None):
            case Answered(200, rows):
                return [_row(row) for row in rows]
            case answer:
                return Unreadable(repr(answer))

    def cancel(
        self, session: Session, broker_order_id: str, *, timeout_s: float, send_by: float | None = None
    ) -> Outcome:
        return self._told(self._ask(f"/end/{broker_order_id}", send_by))

    def modify(self, session: Session, broker_order_id: str, line: Line, **given: Any) -> Outcome:
        return self._told(self._ask(f"/change/{broker_order_id}/{line.order.quantity}", given.get("send_by")))

    def _ask(self, path: str, send_by: float | None) -> Any:
        return self._wire.call("place", "POST", path, headers={}, deadline=Deadline.within(5.0, send_by=send_by))

    def _told(self, answer: Any) -> Outcome:
        match answer:
            case Answered(200, {"id": broker_order_id}):
                return Accepted(broker_order_id)
            case NeverSent(why):
                return NotSent(why)
            case _:
                return Unknown(repr(answer))


class ToyServer:
    """The broker's side of that wire. `with ToyServer(truth) as server`."""

    def __init__(self, truth: Truth) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                match self.path.split("/")[1:]:
                    case ["take", account, tag]:
                        answer: Any = {"id": truth.take(account, tag)}
                    case ["end", broker_order_id]:
                        truth.end(broker_order_id)
                        answer = {"id": broker_order_id}
                    case ["change", broker_order_id, quantity]:
                        truth.change(broker_order_id, quantity)
                        answer = {"id": broker_order_id}
                    case ["book", account]:
                        answer = truth.shown(account)
                body = orjson.dumps(answer)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _row(row: dict[str, str]) -> BookRow:
    return a_row(
        row["tag"],
        broker_order_id=row["id"],
        state=OrderState(row["state"]),
        status=row["state"].lower(),
        quantity=int(row["quantity"]),
        price=Decimal(row["price"]),
    )
