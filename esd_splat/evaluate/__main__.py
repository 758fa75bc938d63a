"""``python -m esd_splat.evaluate``."""

import sys

from esd_splat.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
