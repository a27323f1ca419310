"""What is true, whatever a broker shows by now: the judge's own view of orders and accounts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from brokers.simulator.accounts import Account
from brokers.simulator.book import SimOrder


def order_row(order: SimOrder) -> dict[str, Any]:
    ask, terms = order.ask, order.terms
    return {
        "order_id": order.order_id,
        "tag": ask.tag,
        "facade": order.facade,
        "account": order.account,
        "instrument": order.instrument.key,
        "side": ask.side,
        "product": ask.product,
        "order_type": terms.order_type,
        "validity": terms.validity,
        "quantity": terms.quantity,
        "price": str(terms.price),
        "trigger_price": str(terms.trigger),
        "state": order.status,
        "final": order.is_final,
        "message": order.message,
        "filled": order.filled,
        "average_price": str(order.average),
        "accepted_at": order.accepted_at,
        "visible_at": order.visible_at,
        "day": order.day,
        "modifications": order.modifications,
        "fills": list(_fills(order)),
    }


def _fills(order: SimOrder) -> Iterator[dict[str, Any]]:
    for trade in order.trades:
        yield {"trade_id": trade.trade_id, "quantity": trade.quantity, "price": str(trade.price), "at": trade.at}


def account_row(account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "facade": account.facade,
        "user_id": account.user_id,
        "api_key": account.api_key,
        "api_secret": account.api_secret,
        "access_token": account.access_token,
        "token_alive": account.token_alive,
        "postback_url": account.postback_url,
        "cash": str(account.cash.rupees),
        "available": str(account.available.rupees),
        "holdings": account.holdings,
        "positions": [
            {"instrument": key, "product": product, "net": position.net}
            for (key, product), position in account.positions.items()
        ],
    }


def state_rows(order: SimOrder) -> list[dict[str, Any]]:
    return [{"at": row.at, "status": row.status, "message": row.message, "filled": row.filled} for row in order.rows]
