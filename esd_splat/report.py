"""``python -m esd_splat.report``."""

import sys

from esd_splat.show.report import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
