"""python -m manifold_lab.probe."""

import sys

from manifold_lab.probe.options import main

if __name__ == "__main__":
    sys.exit(main())
