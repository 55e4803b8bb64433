"""``python -m masa.cold_start``."""

import sys

from masa.cold_start.command import main

if __name__ == "__main__":
    sys.exit(main())
