"""``python -m masa.problems``."""

import sys

from masa.problems.command import main

if __name__ == "__main__":
    sys.exit(main())
