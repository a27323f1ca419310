from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.exits import Failed
from ops.profiles import find_target, profiles_path, read_profiles


def write_stack(folder: Path) -> None:
    (folder / ".run").mkdir(parents=True)
    (folder / ".run" / "stack.json").write_text(json.dumps({"base_url": "http://stack", "keys": {"trader": "k"}}))


@pytest.fixture
def prod(run_trader):
    assert run_trader("profile", "set", "prod", "--url", "https://prod/", "--key", "prod_key_0123").code == 0


def test_a_running_stack_is_found_from_a_folder_below_it(tmp_path, monkeypatch):
    write_stack(tmp_path)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)

    target = find_target(None)

    assert (target.base_url, target.key) == ("http://stack", "k")


def test_the_named_profile_wins_over_the_environment_and_that_over_the_one_in_use(prod, run_trader, monkeypatch):
    run_trader("profile", "use", "prod")
    assert find_target(None).base_url == "https://prod"
    monkeypatch.setenv("TRADER_URL", "http://env")
    monkeypatch.setenv("TRADER_KEY", "k")

    assert find_target(None).base_url == "http://env"
    assert find_target("prod").base_url == "https://prod"


def test_the_profile_in_use_wins_over_a_stack_and_none_gives_way(prod, run_trader, tmp_path):
    write_stack(tmp_path)
    run_trader("profile", "use", "prod")
    assert find_target(None).base_url == "https://prod"

    run_trader("profile", "use", "--none")

    assert find_target(None).base_url == "http://stack"


@pytest.mark.parametrize("given", ["TRADER_URL", "TRADER_KEY"])
def test_an_address_without_its_key_is_never_filled_up_from_elsewhere(given, monkeypatch, tmp_path):
    write_stack(tmp_path)
    monkeypatch.setenv(given, "x")

    with pytest.raises(Failed, match="isn't set, its partner is"):
        find_target(None)


def test_nothing_configured_names_what_to_do(run_trader):
    ran = run_trader("orders")

    assert ran.code == 2
    assert "make run" in ran.err
    assert "TRADER_URL" in ran.err
    assert "trader profile set" in ran.err


def test_a_profile_file_is_its_owners_only_and_lists_no_whole_key(prod, run_trader):
    assert profiles_path().stat().st_mode & 0o777 == 0o600

    ran = run_trader("profile", "list")

    assert "https://prod" in ran.out
    assert "prod_key" not in ran.out


def test_names_and_keys_of_any_letters_come_back_as_they_went_in(run_trader):
    run_trader("profile", "set", 'my "own" é', "--url", "http://x", "--key", 'a"b\\c')

    assert read_profiles().by_name['my "own" é'] == {"base_url": "http://x", "key": 'a"b\\c'}


def test_an_unknown_profile_names_the_known_ones(prod, run_trader):
    ran = run_trader("orders", "--profile", "prd", "--json")

    assert ran.code == 2
    assert "known: prod" in ran.document["detail"]


def test_a_broken_profiles_file_is_named(run_trader):
    profiles_path().parent.mkdir(parents=True)
    profiles_path().write_text("current = ")

    assert "profiles.toml can't be read" in run_trader("profile", "list").err


def test_a_stack_file_without_a_key_says_to_start_it_again(tmp_path, run_trader):
    (tmp_path / ".run").mkdir()
    (tmp_path / ".run" / "stack.json").write_text("{}")

    ran = run_trader("orders")

    assert ran.code == 2
    assert "coordinator up" in ran.err
