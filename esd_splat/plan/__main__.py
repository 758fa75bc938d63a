"""``python -m esd_splat.plan``."""

import sys

from esd_splat.plan import main

if __name__ == "__main__":
    sys.exit(main())
