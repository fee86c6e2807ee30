"""``python -m streamlet``: the command line."""

from __future__ import annotations

import sys

from streamlet.cli import main

if __name__ == "__main__":
    sys.exit(main())
