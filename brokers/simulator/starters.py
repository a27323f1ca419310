"""The accounts that are there from the start, and names for more of them."""

from __future__ import annotations

from brokers.simulator.accounts import Account, Accounts

_LETTERS = {"upstox": "UP", "zerodha": "ZR"}


def first_account(facade: str) -> Account:
    """The account every example uses: SIM-UPSTOX-1, SIM-ZERODHA-1."""
    return _account(facade, 1)


def more_accounts(accounts: Accounts, facade: str, count: int) -> list[Account]:
    """So many accounts after those that are there; they aren't added yet."""
    numbers = (n for n in range(1, 1_000_000) if accounts.get(_user_id(facade, n)) is None)
    return [_account(facade, number) for number, _ in zip(numbers, range(count), strict=False)]


def _account(facade: str, number: int) -> Account:
    suffix = "" if number == 1 else f"-{number}"
    return Account(
        name=f"SIM-{facade.upper()}-{number}",
        facade=facade,
        user_id=_user_id(facade, number),
        api_key=f"sim-{facade}-key{suffix}",
        api_secret=f"sim-{facade}-secret{suffix}",
        access_token=f"sim-{facade}-token{suffix}",
    )


def _user_id(facade: str, number: int) -> str:
    return f"{_LETTERS[facade]}{number:04d}"
