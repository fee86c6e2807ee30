"""The main example: `python -m examples.demo`, or `make demo`. See `examples.blizzard`."""

import sys

from examples.blizzard.run import main

if __name__ == "__main__":
    sys.exit(main())
