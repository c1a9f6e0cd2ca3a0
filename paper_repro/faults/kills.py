"""A process that ends without being asked: killed at any time, in a write, interrupted, or one of several."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # comes with accelerate

from paper_repro.faults.sweep_under_test import SweepUnderTest, message
from paper_repro.faults.victim import HANGS, Command, Ended, Victim, dies_in_a_write, drawn_size

BLOWS = 6
"""So often is a command struck, at most, before it is left to end by itself."""


@dataclass(frozen=True)
class Trial:
    """One story from beginning to end.

    Attributes:
        strikes: how often the fault really struck.
        said: what the user sees, a line.
        lost: in words; empty if all ended as if nothing had happened.
        seconds: that it took longer than undisturbed, a strike.
    """

    strikes: int
    said: str
    lost: tuple[str, ...]
    seconds: float

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "lost": list(self.lost)}


def until_done(
    test: SweepUnderTest, out: Path, methods: Sequence[str], live: Callable[[Command], Ended], normal: float
) -> Trial:
    """Give the same command, life after life, until it ends by itself; after so many blows it is let live.

    Args:
        test: the sweep.
        out: its folder.
        methods: of its runs.
        live: starts the command, and perhaps ends it.
        normal: seconds that it takes undisturbed.
    """
    command = test.command(out, methods)
    finished: dict[str, bytes] = {}
    lost: list[str] = []
    strikes, seconds, said = 0, 0.0, ""
    for blows in range(BLOWS + 1):
        ended = live(command) if blows < BLOWS else Victim(command).end()
        seconds += ended.seconds
        if ended.status == 0:
            break
        if blows == BLOWS or not (ended.killed or ended.status == 130):
            lost.append(f"the same command does not go on: {message(ended, out)}")
            break
        strikes, said = strikes + 1, message(ended, out)
        lost += test.damaged(out)
        finished |= test.files(out)
    lost += test.lost(out, finished, methods)
    return Trial(strikes, said, tuple(dict.fromkeys(lost)), (seconds - normal) / max(1, strikes))


def killed_in_training(test: SweepUnderTest, out: Path, draw: random.Random) -> Trial:
    """One run, killed at a time that is uniform over an undisturbed run; again until a life is long enough."""
    method = draw.choice([run.method for run in test.runs])
    return until_done(test, out, [method], lambda command: Victim(command).end(draw.uniform(0, test.one)), test.one)


def killed_in_sweep(test: SweepUnderTest, out: Path, draw: random.Random) -> Trial:
    """The same of three runs."""
    return until_done(test, out, (), lambda command: Victim(command).end(draw.uniform(0, test.seconds)), test.seconds)


def killed_in_writes(test: SweepUnderTest, out: Path, draw: random.Random) -> Trial:
    """Killed at a byte of a write: from a random file on, the first to become larger than a random size."""

    def live(command: Command) -> Ended:
        return Victim(command, dies_in_a_write(draw.randrange(len(test.written)), drawn_size(draw))).end()

    return until_done(test, out, (), live, test.seconds)


def interrupted(test: SweepUnderTest, out: Path, draw: random.Random) -> Trial:
    """SIGINT, as of Ctrl-C, at a random time, once; then the same command."""
    times = iter([draw.uniform(0.05, 1) * test.seconds])
    return until_done(
        test, out, (), lambda command: Victim(command).end(next(times, HANGS), signal.SIGINT), test.seconds
    )  # fmt: skip


def two_at_once(test: SweepUnderTest, out: Path, draw: random.Random) -> Trial:
    """The same command twice at a time in one folder; one of the two is killed at a random time, the other goes on."""
    command = test.command(out)
    began = time.perf_counter()
    both = [Victim(command), Victim(command)]
    draw.shuffle(both)
    ended = [both[0].end(draw.uniform(0, 2) * test.seconds), both[1].end()]
    if any(end.status != 0 for end in ended):
        ended.append(Victim(command).end())
    seconds = time.perf_counter() - began
    said = " ".join(end.said for end in ended)
    done = Counter(re.findall(r"^\[\d+/\d+\] ([\w-]+):", "\n".join(end.said for end in ended), re.MULTILINE))
    lost = [f"{name} was done {times} times" for name, times in done.items() if times > 1]
    if ended[-1].status != 0:
        lost.append(f"the other did not end well: {message(ended[-1], out)}")
    strikes = sum(end.killed for end in ended[:2])
    noted = re.search(r"\d+ runs are in the hands of another sweep", said)
    return Trial(strikes, noted[0] if noted else "", tuple(lost + test.lost(out, {})), seconds - test.seconds)


def ddp_sweep(test: SweepUnderTest, out: Path, methods: Sequence[str]) -> subprocess.Popen[str]:
    """The sweep by torchrun: two processes, gloo."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "paper_repro.sweep"]
    return subprocess.Popen(
        [*command, *test.arguments(out, methods)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def ddp_undisturbed(test: SweepUnderTest, out: Path) -> dict[str, Any]:
    """What two processes find if nothing happens, and the seconds that they take."""
    began = time.perf_counter()
    process = ddp_sweep(test, out, _DDP)
    said, _ = process.communicate(timeout=HANGS)
    if process.returncode != 0:
        raise RuntimeError(f"an undisturbed sweep by torchrun failed:\n{said}")
    return {"results": test.found(out), "seconds": time.perf_counter() - began}


_DDP = ("scala-warm",)


def ddp_worker_killed(test: SweepUnderTest, out: Path, draw: random.Random, undisturbed: dict[str, Any]) -> Trial:
    """One of torchrun's two workers is killed after the first checkpoint began to appear; then the same command."""
    began = time.perf_counter()
    process, strikes = ddp_sweep(test, out, _DDP), 0
    while process.poll() is None and time.perf_counter() - began < HANGS:
        if not strikes and any(out.rglob("checkpoint-*")):
            time.sleep(draw.uniform(0, 1))
            if workers := psutil.Process(process.pid).children():
                draw.choice(workers).kill()
                strikes = 1
        time.sleep(0.01)
    said, _ = process.communicate(timeout=HANGS)
    finished = test.files(out)
    if process.returncode != 0:
        process = ddp_sweep(test, out, _DDP)
        last, _ = process.communicate(timeout=HANGS)
    seconds = time.perf_counter() - began - undisturbed["seconds"]
    lost = [f"{name} has changed" for name, content in finished.items() if test.files(out).get(name) != content]
    if process.returncode != 0:
        lost.append(f"the same command does not go on: {last[-300:]}")
    elif test.found(out) != undisturbed["results"]:
        lost.append("the result is not that of two workers never disturbed")
    named = re.search(r"traceback : (Signal 9 \(SIGKILL\) received)", said)
    return Trial(strikes, f"torchrun ends the other worker and reports: {named[1]}" if named else "", tuple(lost), seconds)
