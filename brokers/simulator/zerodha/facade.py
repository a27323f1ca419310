"""Zerodha's front: routes, sessions, postbacks and the ticker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from hmac import compare_digest
from typing import Any

import orjson

from brokers.simulator.accounts import Account
from brokers.simulator.book import WORKING, Row, SimOrder
from brokers.simulator.exchange import Exchange
from brokers.simulator.faults import Fault
from brokers.simulator.postbacks import Postbacks
from brokers.simulator.service import Call, Route
from brokers.simulator.settings import Limits
from brokers.simulator.stream import stream
from brokers.simulator.web import Answer, Request, Upgrade
from brokers.simulator.zerodha import words
from brokers.simulator.zerodha.answers import (
    DEAD_TOKEN,
    IP_NOT_REGISTERED,
    RATE_LIMITED,
    TIMED_OUT,
    UNKNOWN_PATH,
    Refused,
    bad_input,
    failure,
    success,
)
from brokers.simulator.zerodha.market import Market
from brokers.simulator.zerodha.orders import NAME, Orders
from brokers.simulator.zerodha.portfolio import Portfolio
from brokers.simulator.zerodha.reads import Reads, book_row, update

_SCHEME = "token "
_HEARTBEAT_S = 1.0


class Zerodha:
    name = NAME

    def __init__(self, exchange: Exchange, postbacks: Postbacks) -> None:
        self._exchange, self._postbacks = exchange, postbacks
        self._used_tokens: set[str] = set()  # request tokens are good for one session each
        self.routes: Sequence[Route] = self._make_routes()

    def _make_routes(self) -> list[Route]:
        exchange = self._exchange
        orders, reads = Orders(exchange), Reads(exchange)
        portfolio, market = Portfolio(exchange), Market(exchange)

        def route(
            method: str,
            path: str,
            endpoint: str,
            do: Callable[[Call], Answer],
            bucket: str = "reads",
            **words_of_it: Any,
        ) -> Route:
            return Route(method, path, endpoint, _told(do), bucket, **words_of_it)

        return [
            route("POST", "/orders/{variety}", "place", orders.place, "orders", places=True),
            route("PUT", "/orders/{variety}/{order_id}", "modify", orders.modify, "orders"),
            route("DELETE", "/orders/{variety}/{order_id}", "cancel", orders.cancel, "orders"),
            route("GET", "/orders", "book", reads.book),
            route("GET", "/trades", "trades", reads.trades),
            route("GET", "/orders/{order_id}", "history", reads.history),
            route("GET", "/orders/{order_id}/trades", "order_trades", reads.order_trades),
            route("GET", "/user/profile", "profile", self._profile),
            route("GET", "/user/margins", "funds", portfolio.margins),
            route("GET", "/user/margins/{segment}", "funds", portfolio.segment_margins),
            route("GET", "/portfolio/positions", "positions", portfolio.positions),
            route("GET", "/portfolio/holdings", "holdings", portfolio.holdings),
            route("POST", "/margins/orders", "margin", market.order_margins),
            route("POST", "/margins/basket", "margin", market.basket_margins),
            route("POST", "/charges/orders", "charges", market.charges),
            route("GET", "/quote", "quote", market.quotes, "quotes"),
            route("GET", "/quote/ohlc", "quote", market.ohlc, "quotes"),
            route("GET", "/quote/ltp", "quote", market.last_prices, "quotes"),
            route("GET", "/instruments", "instruments", market.instruments),
            route("GET", "/instruments/{exchange}", "instruments", market.instruments),
            route("POST", "/session/token", "token", self._log_in, "", needs_token=False),
            route("DELETE", "/session/token", "logout", self._log_out, "", needs_token=False),
            Route("GET", "/", "stream", self._open_stream, "", needs_token=False),
        ]

    def account_of(self, request: Request) -> Account | None:
        """Of the Authorization header, or for the ticker of the query."""
        header = request.headers.get("authorization", "")
        if header.lower().startswith(_SCHEME):
            api_key, _, token = header[len(_SCHEME) :].strip().partition(":")
        else:
            api_key, token = request.first("api_key") or "", request.first("access_token") or ""
        account = self._exchange.accounts.by_token(NAME, token)
        return account if account is not None and account.api_key == api_key else None

    def unknown_path(self) -> Answer:
        return failure(UNKNOWN_PATH)

    def dead_token(self) -> Answer:
        return failure(DEAD_TOKEN)

    def rate_limited(self) -> Answer:
        return failure(RATE_LIMITED)

    def ip_not_registered(self) -> Answer:
        return failure(IP_NOT_REGISTERED)

    def refused(self, fault: Fault) -> Answer:
        return failure(Refused(fault.code or "InputException", fault.message or "Invalid input."))

    def timed_out(self) -> Answer:
        return failure(TIMED_OUT)

    def without_id(self) -> Answer:
        return success({})

    def limits(self) -> Limits:
        return self._exchange.settings.zerodha

    def push(self, order: SimOrder, row: Row) -> bytes | None:
        told = update(order, row, self._exchange.accounts[order.account])
        return None if told is None else orjson.dumps(told, default=float)

    def stream(self, order: SimOrder, row: Row) -> str | None:
        """As a postback, but also when an order begins to rest; its checksum is blank."""
        told = update(order, row, self._exchange.accounts[order.account])
        if told is None and row.status in WORKING:
            told = book_row(order, row) | {"user_id": order.account}
        if told is None:
            return None
        return orjson.dumps({"type": "order", "data": told | {"checksum": ""}}, default=float).decode()

    def _log_in(self, call: Call) -> Answer:
        """Trades a request token (any will do, once) for the account's token, which lives again."""
        form = call.request.form
        account = self._exchange.accounts.by_key(NAME, form.get("api_key", ""))
        request_token = form.get("request_token", "")
        if account is None:
            raise bad_input("Invalid `api_key`.")
        checksum = sha256(f"{account.api_key}{request_token}{account.api_secret}".encode()).hexdigest()
        if not request_token or not compare_digest(checksum, form.get("checksum", "")):
            raise Refused("TokenException", "Invalid `checksum`.", 403)
        if request_token in self._used_tokens:
            raise Refused("TokenException", "Token is invalid or has expired.", 403)
        self._used_tokens.add(request_token)
        account.token_alive = True
        tokens = {
            "api_key": account.api_key,
            "access_token": account.access_token,
            "public_token": f"public-{account.user_id}",
            "enctoken": "",
            "refresh_token": "",
            "silo": "",
            "login_time": words.timestamp(self._exchange.now),
        }
        return success(_profile_of(account) | tokens)

    def _log_out(self, call: Call) -> Answer:
        if call.account is None:
            raise DEAD_TOKEN
        call.account.token_alive = False
        return success(True)

    def _profile(self, call: Call) -> Answer:
        return success(_profile_of(call.owner))

    def _open_stream(self, call: Call) -> Answer | Upgrade:
        account = call.account
        if (
            account is None
            or not account.token_alive
            or "websocket" not in call.request.headers.get("upgrade", "").lower()
        ):
            return self.dead_token()
        join = partial(self._postbacks.streams.join, account.user_id)
        return Upgrade(partial(stream, join=join, heartbeat_s=_HEARTBEAT_S))


def _told(do: Callable[[Call], Answer]) -> Callable[[Call], Answer]:
    """What is refused becomes an answer in Zerodha's words."""

    def tell(call: Call) -> Answer:
        try:
            return do(call)
        except Refused as refused:
            return failure(refused)

    return tell


def _profile_of(account: Account) -> dict[str, Any]:
    return {
        "user_id": account.user_id,
        "user_type": "individual",
        "email": f"{account.user_id.lower()}@example.org",
        "user_name": account.name,
        "user_shortname": account.name,
        "broker": "ZERODHA",
        "exchanges": ["NSE", "NFO", "BSE", "BFO", "CDS"],
        "products": ["CNC", "NRML", "MIS", "MTF"],
        "order_types": ["MARKET", "LIMIT", "SL", "SL-M"],
        "avatar_url": None,
        "meta": {"demat_consent": "physical"},
    }
