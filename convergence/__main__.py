"""``python -m convergence``, see `convergence.theory`."""

import sys

try:
    from convergence.theory import main
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is missing, which the theory needs: pip install 'scala-adapt[theory]'")

if __name__ == "__main__":
    sys.exit(main())
