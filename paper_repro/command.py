"""What all commands have alike: arguments by argparse, errors in one line, and an interruption that loses nothing."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence

from scala.game import NonFiniteLoss

Main = Callable[[Sequence[str] | None], int]


def parser(module: str, about: str | None) -> argparse.ArgumentParser:
    """For `python -m MODULE`, described by its docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def command(main: Main) -> Callable[..., int]:
    """The `main` of a module that is run as a program: it returns the exit status, whatever goes wrong that a user can mend.

    Errors of input, files, network and missing packages are said in one line, status 1; an interruption has status 130. What
    else goes wrong is our fault, and shows where.
    """

    @functools.wraps(main)
    def wrapped(arguments: Sequence[str] | None = None) -> int:
        try:
            return main(arguments)
        except KeyboardInterrupt:
            print("\ninterrupted; what is finished is kept, and the same command continues here", file=sys.stderr)
            return 130
        except (ValueError, OSError, ImportError, NonFiniteLoss) as error:  # ConnectionError and TimeoutError are OSErrors
            print(f"error: {error}", file=sys.stderr)
            return 1

    return wrapped
