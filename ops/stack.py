"""The whole system on one machine, as a library: `with Stack(...)`; and as commands: `python -m ops.stack up`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from ops.commands import main

    sys.exit(main())
