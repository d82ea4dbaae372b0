"""python -m manifold_lab.report."""

import sys

from manifold_lab.report.texts import main

if __name__ == "__main__":
    sys.exit(main())
