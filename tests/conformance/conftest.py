"""The adapters' tests lend their orders, sockets and Valkey to the conformance suite."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "unit" / "brokers"))
