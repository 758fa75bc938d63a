"""``python -m esd_splat.compare``."""

import sys

from esd_splat.show.compare import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
