"""``python -m convergence``, see `convergence.theory`."""

import sys

from convergence.theory import main

if __name__ == "__main__":
    sys.exit(main())
