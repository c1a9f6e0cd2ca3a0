"""`python -m scala.adapt`, as torchrun needs it, is the command `scala-adapt`."""

import sys

from scala.adapt import main

sys.exit(main())
