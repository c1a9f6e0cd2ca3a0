"""A command in a forked process, and what may end it early.

Importing the libraries takes many times as long as a tiny run. So they are imported once, and each victim is a fork of the
process that did; from there on it is the real command.
"""

from __future__ import annotations

import os
import random
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Command = Callable[[], int]
"""Returns the exit status."""

HANGS = 300.0
"""Seconds after which a victim that should have ended by itself is given up; a run takes a few."""


@dataclass(frozen=True)
class Ended:
    """How a victim ended.

    Attributes:
        status: its exit status; minus the signal's number if a signal ended it.
        said: all that it printed.
        seconds: that it lived.
    """

    status: int
    said: str
    seconds: float

    @property
    def killed(self) -> bool:
        """Whether nothing of its own could run at the end."""
        return self.status in (-signal.SIGKILL, -signal.SIGXFSZ)


class Victim:
    """A started command."""

    def __init__(self, command: Command, prepare: Callable[[], None] | None = None) -> None:
        """Start it.

        Args:
            command: what to do.
            prepare: done first, in the new process: what shall go wrong there.
        """
        self.began = time.perf_counter()
        sys.stdout.flush()
        sys.stderr.flush()
        self._output, end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(end, 1)
            os.dup2(end, 2)
            os.closerange(3, 256)  # above all other victims' pipes
            _live(command, prepare)
        os.close(end)

    def end(self, after: float = HANGS, blow: int = signal.SIGKILL) -> Ended:
        """Wait until it ends, or hit it with a signal after so many seconds of its life and wait then."""
        said, struck = b"", False
        while True:
            left = self.began + (HANGS if struck else after) - time.perf_counter()
            if select.select([self._output], [], [], max(0.0, left))[0]:
                if not (more := os.read(self._output, 65536)):
                    break
                said += more
            else:
                os.kill(self.pid, signal.SIGKILL if struck else blow)
                struck = True
        os.close(self._output)
        _, status = os.waitpid(self.pid, 0)
        return Ended(os.waitstatus_to_exitcode(status), said.decode(errors="replace"), time.perf_counter() - self.began)


def _live(command: Command, prepare: Callable[[], None] | None) -> None:
    """The new process: the command, and the end; whatever happens, it never returns to what the old one was doing."""
    status = 1
    try:
        sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, "utf-8", closefd=False) for number in (1, 2))
        warnings.showwarning = _show  # also where the old process records its own
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if prepare is not None:
            prepare()
        status = command()
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any) -> None:
    print(warnings.formatwarning(message, category, filename, lineno, ""), file=sys.stderr, end="")


_OPENED: list[Callable[[str], None]] = []


def _on_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str) and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
        for call in _OPENED:
            call(arguments[0])


def on_writes(call: Callable[[str], None]) -> None:
    """Call this with the path of every file that Python opens to write, from now on, in this process."""
    if not _OPENED:
        sys.addaudithook(_on_open)
    _OPENED.append(call)


def dies_in_a_write(at: int, size: int) -> Callable[[], None]:
    """Prepares a victim to be killed by the system at a byte of a write: also of those that C++ and Rust make.

    From the time that it opens the `at`-th file to write, the first file of more than `size` bytes ends it (SIGXFSZ), when so
    many of them are there.
    """

    def prepare() -> None:
        count = iter(range(at + 1))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        def arm(_: str) -> None:
            if next(count, None) == at:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

        on_writes(arm)

    return prepare


def drawn_size(draw: random.Random, largest: int = 200_000) -> int:
    """Bytes, with a logarithm that is uniform: files are of all sizes."""
    return int(largest ** draw.random())
