"""The control API: steers the simulator, and tells what truly happened. docs/simulator.md shows every request."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import ValidationError

from brokers.simulator.accounts import Account
from brokers.simulator.book import SimOrder
from brokers.simulator.clock import Clock
from brokers.simulator.doors import Door, State
from brokers.simulator.exchange import AlreadyFinal, BeingProcessed, Exchange
from brokers.simulator.faults import Fault, Faults
from brokers.simulator.judge import account_row, order_row, state_rows
from brokers.simulator.limits import Windows
from brokers.simulator.service import Service
from brokers.simulator.starters import more_accounts
from brokers.simulator.web import Answer, Request, json_answer
from domain.money import Money


class Wrong(Exception):
    """What was asked of the control makes no sense; told with this status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Control:
    def __init__(
        self,
        exchange: Exchange,
        clock: Clock,
        faults: Faults,
        windows: Windows,
        services: Sequence[Service],
        doors: Mapping[str, Door],
        wake: Callable[[], None],
    ) -> None:
        self._exchange, self._clock, self._faults = exchange, clock, faults
        self._windows, self._services, self._doors, self._wake = windows, services, doors, wake
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., Any]]] = [
            ("GET", re.compile(r"/health\Z"), self._health),
            ("GET", re.compile(r"/clock\Z"), self._get_clock),
            ("PUT", re.compile(r"/clock\Z"), self._put_clock),
            ("GET", re.compile(r"/settings\Z"), self._get_settings),
            ("PUT", re.compile(r"/settings\Z"), self._put_settings),
            ("GET", re.compile(r"/faults\Z"), self._get_faults),
            ("POST", re.compile(r"/faults\Z"), self._post_faults),
            ("DELETE", re.compile(r"/faults\Z"), self._delete_faults),
            ("DELETE", re.compile(r"/faults/(\d+)\Z"), self._delete_faults),
            ("GET", re.compile(r"/doors\Z"), self._get_doors),
            ("PUT", re.compile(r"/doors/([^/]+)\Z"), self._put_door),
            ("GET", re.compile(r"/accounts\Z"), self._get_accounts),
            ("POST", re.compile(r"/accounts\Z"), self._post_accounts),
            ("PUT", re.compile(r"/accounts/([^/]+)\Z"), self._put_account),
            ("PUT", re.compile(r"/postbacks\Z"), self._put_postbacks),
            ("GET", re.compile(r"/streams\Z"), self._get_streams),
            ("DELETE", re.compile(r"/streams\Z"), self._delete_streams),
            ("GET", re.compile(r"/orders\Z"), self._get_orders),
            ("GET", re.compile(r"/orders/([^/]+)\Z"), self._get_order),
            ("GET", re.compile(r"/requests\Z"), self._get_requests),
            ("GET", re.compile(r"/prices/(.+)\Z"), self._get_price),
            ("PUT", re.compile(r"/prices/(.+)\Z"), self._put_price),
            ("POST", re.compile(r"/fills\Z"), self._post_fill),
            ("POST", re.compile(r"/reset\Z"), self._post_reset),
        ]

    async def __call__(self, request: Request) -> Answer:
        for method, pattern, handle in self._routes:
            if method == request.method and (match := pattern.match(request.path)):
                self._exchange.advance(self._clock.now())
                try:
                    content = handle(request, *match.groups())
                    answer = json_answer(await content if isinstance(content, Awaitable) else content)
                except Wrong as wrong:
                    answer = json_answer({"error": str(wrong)}, wrong.status)
                except (ValidationError, ValueError) as error:
                    answer = json_answer({"error": str(error)}, 400)
                self._exchange.journal.flush()
                self._wake()
                return answer
        return json_answer({"error": f"no {request.method} {request.path}"}, 404)

    def _health(self, request: Request) -> Any:
        return {"status": "ok", "orders": len(self._exchange.books.all), "now": self._exchange.now}

    def _get_clock(self, request: Request) -> Any:
        return {
            "now": self._clock.now(),
            "frozen": self._clock.frozen,
            "session": "open" if self._exchange.is_open else "closed",
            "day": self._exchange.books.day,
            "calendar": "SIM",
        }

    def _put_clock(self, request: Request) -> Any:
        body = _object(request, {"now", "advance_s", "frozen", "session"})
        if body.get("frozen") is True:
            self._clock.freeze()
        elif body.get("frozen") is False:
            self._clock.run()
        if "now" in body:
            self._clock.jump(datetime.fromisoformat(body["now"]))
        if "advance_s" in body:
            self._clock.jump(self._clock.now() + timedelta(seconds=float(body["advance_s"])))
        self._exchange.advance(self._clock.now())
        if body.get("session") == "closed":
            self._exchange.close()
        elif body.get("session") == "open":
            self._exchange.open()
        return self._get_clock(request)

    def _get_settings(self, request: Request) -> Any:
        return self._exchange.settings.model_dump(mode="json")

    def _put_settings(self, request: Request) -> Any:
        self._exchange.use(self._exchange.settings.changed(_object(request)))
        self._windows.clear()
        return self._get_settings(request)

    def _get_faults(self, request: Request) -> Any:
        return [fault.model_dump(mode="json") for fault in self._faults]

    def _post_faults(self, request: Request) -> Any:
        """One fault, or a list: all of them or none."""
        body = _json(request)
        asked = [Fault.model_validate(item) for item in (body if isinstance(body, list) else [body])]
        return [self._faults.add(fault).model_dump(mode="json") for fault in asked]

    def _delete_faults(self, request: Request, fault_id: str | None = None) -> Any:
        self._faults.clear(None if fault_id is None else int(fault_id))
        return self._get_faults(request)

    def _get_doors(self, request: Request) -> Any:
        return {name: door.state for name, door in self._doors.items()}

    async def _put_door(self, request: Request, facade: str) -> Any:
        door = self._doors.get(facade)
        if door is None:
            raise Wrong(f"no door {facade}; there is {', '.join(self._doors)}", 404)
        await door.turn(State(str(_object(request, {"state"}).get("state"))))
        return self._get_doors(request)

    def _get_accounts(self, request: Request) -> Any:
        return [account_row(account) for account in self._exchange.accounts]

    def _post_accounts(self, request: Request) -> Any:
        """One account with the words given, or `count` more of a broker with made-up ones."""
        body = _object(request, {"facade", "count", *_ACCOUNT_WORDS, *_ACCOUNT_FACTS})
        facade = body.get("facade")
        if facade not in {service.facade.name for service in self._services}:
            raise Wrong(f"facade is one of {', '.join(s.facade.name for s in self._services)}")
        made = more_accounts(self._exchange.accounts, facade, int(body.get("count", 1)))
        for account in made:
            for word in _ACCOUNT_WORDS & body.keys():
                setattr(account, word, str(body[word]))
            self._set_facts(account, body)
            self._exchange.add_account(account)
        return [account_row(account) for account in made]

    def _put_account(self, request: Request, user_id: str) -> Any:
        account = self._account(user_id)
        self._set_facts(account, _object(request, _ACCOUNT_FACTS))
        self._exchange.journal.account(account)
        return account_row(account)

    def _set_facts(self, account: Account, body: dict[str, Any]) -> None:
        if "token_alive" in body:
            account.token_alive = bool(body["token_alive"])
        if "postback_url" in body:
            account.postback_url = body["postback_url"]
        if "cash" in body:
            account.cash = Money.of_rupees(_decimal(body["cash"]))
        if "holdings" in body:
            unknown = [key for key in body["holdings"] if self._exchange.listing.get(key) is None]
            if unknown:
                raise Wrong(f"no instrument {', '.join(unknown)}")
            account.holdings = {key: int(count) for key, count in body["holdings"].items()}

    def _put_postbacks(self, request: Request) -> Any:
        """A URL for one account, or with no user id for all of a facade, or of all."""
        body = _object(request, {"url", "user_id", "facade"})
        chosen = [
            account
            for account in self._exchange.accounts
            if body.get("user_id") in (None, account.user_id) and body.get("facade") in (None, account.facade)
        ]
        for account in chosen:
            account.postback_url = body.get("url")
            self._exchange.journal.account(account)
        return [account_row(account) for account in chosen]

    def _get_streams(self, request: Request) -> Any:
        return {name: count for service in self._services for name, count in service.open_streams().items()}

    def _delete_streams(self, request: Request) -> Any:
        """Resets the streams of an account, or all."""
        return {"cut": sum(service.cut_streams(request.first("account")) for service in self._services)}

    def _get_orders(self, request: Request) -> Any:
        first = request.first
        return [
            order_row(order)
            for order in self._exchange.books.all.values()
            if first("tag") in (None, order.ask.tag)
            and first("account") in (None, order.account)
            and first("facade") in (None, order.facade)
            and (order.ask.tag or "").startswith(first("tag_prefix") or "")
        ]

    def _get_order(self, request: Request, order_id: str) -> Any:
        order = self._order(order_id)
        return order_row(order) | {"rows": state_rows(order)}

    def _get_requests(self, request: Request) -> Any:
        return [
            {"facade": service.facade.name, "account": account, "endpoint": endpoint, "status": status, "count": count}
            for service in self._services
            for (account, endpoint, status), count in sorted(service.counts.items())
        ]

    def _get_price(self, request: Request, key: str) -> Any:
        instrument = self._instrument(key)
        low, high = self._exchange.prices.band(instrument)
        pinned = key in self._exchange.prices.pins
        last = self._exchange.last(instrument)
        return {"instrument": key, "last": str(last), "low": str(low), "high": str(high), "pinned": pinned}

    def _put_price(self, request: Request, key: str) -> Any:
        """Pins the price; null lets it walk again."""
        body = _object(request, {"price"})
        price = body.get("price")
        self._exchange.pin(self._instrument(key), None if price is None else _decimal(price))
        self._exchange.advance(self._clock.now())
        return self._get_price(request, key)

    def _post_fill(self, request: Request) -> Any:
        body = _object(request, {"order_id", "quantity", "price"})
        order = self._order(str(body.get("order_id")))
        price = _decimal(body["price"]) if "price" in body else self._exchange.last(order.instrument)
        quantity = int(body.get("quantity", order.pending))
        if quantity < 1 or price <= 0:
            raise Wrong("quantity and price are above 0")
        try:
            self._exchange.force_fill(order, quantity, price)
        except AlreadyFinal:
            raise Wrong(f"order {order.order_id} is {order.status}", 409) from None
        except BeingProcessed:
            raise Wrong(f"the exchange doesn't have order {order.order_id} yet", 409) from None
        return order_row(order)

    async def _post_reset(self, request: Request) -> Any:
        """`day` ends the day, `doors` opens them, the others are forgotten. Without a word: all but the day."""
        wanted = set(_object(request, {"what"}).get("what") or ["faults", "counts", "limits", "doors"])
        if unknown := wanted - {"day", "faults", "counts", "limits", "doors"}:
            raise Wrong(f"nothing called {', '.join(sorted(unknown))} can be reset")
        if "day" in wanted:
            self._exchange.reset_day()
        for door in self._doors.values() if "doors" in wanted else ():
            if door.state is not State.OPEN:
                await door.turn(State.OPEN)
        if "faults" in wanted:
            self._faults.clear()
        if "limits" in wanted:
            self._windows.clear()
        if "counts" in wanted:
            for service in self._services:
                service.counts.clear()
        return {"reset": sorted(wanted), "day": self._exchange.books.day}

    def _account(self, user_id: str) -> Account:
        found = self._exchange.accounts.get(user_id)
        if found is None:
            raise Wrong(f"no account {user_id}", 404)
        return found

    def _order(self, order_id: str) -> SimOrder:
        found = self._exchange.books.all.get(order_id)
        if found is None:
            raise Wrong(f"no order {order_id}", 404)
        return found

    def _instrument(self, key: str) -> Any:
        found = self._exchange.listing.get(key)
        if found is None:
            raise Wrong(f"no instrument {key}", 404)
        return found


_ACCOUNT_WORDS = {"name", "user_id", "api_key", "api_secret", "access_token"}
_ACCOUNT_FACTS = {"token_alive", "postback_url", "cash", "holdings"}


def _json(request: Request) -> Any:
    return json.loads(request.body or b"{}", parse_float=Decimal)


def _object(request: Request, known: set[str] | None = None) -> dict[str, Any]:
    body = _json(request)
    if not isinstance(body, dict):
        raise Wrong("the body is a JSON object")
    if known is not None and (unknown := body.keys() - known):
        raise Wrong(f"no field {', '.join(sorted(unknown))}; there is {', '.join(sorted(known))}")
    return body


def _decimal(value: Any) -> Decimal:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise Wrong(f"{value!r} is no number") from None
