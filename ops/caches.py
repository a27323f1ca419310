"""Where what was downloaded once is kept for the next time, and for the next clone."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(fallback: Path) -> Path:
    """The user's cache; the fallback when the user has no home that can be written to.

    Raises:
        OSError: neither can be.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for place in (Path(base) / "order-coordinator", fallback):
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(place, os.W_OK) and place.stat().st_uid == os.geteuid():
            return place
    raise OSError(f"neither {base} nor {fallback} can be written to")
