"""``python -m esd_splat.doctor``."""

import sys

from esd_splat.doctor import main

if __name__ == "__main__":
    sys.exit(main())
