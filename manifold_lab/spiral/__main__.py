"""python -m manifold_lab.spiral."""

import sys

from manifold_lab.spiral.command import main

if __name__ == "__main__":
    sys.exit(main())
