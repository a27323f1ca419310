"""The page of settings says what the model says."""

from __future__ import annotations

from ops.settings.page import PAGE, page


def test_the_page_is_as_the_settings_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m ops.settings.page"
