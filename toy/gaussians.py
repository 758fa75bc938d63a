"""``python -m toy.gaussians`` in a checkout: the same as ``python -m esd_splat.toy``."""

import sys

from esd_splat.toy import main

if __name__ == "__main__":
    sys.exit(main())
