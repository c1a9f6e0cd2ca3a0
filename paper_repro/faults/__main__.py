"""Do every fault so often, and write what happened: a JSON record and a page with a table. `make faults`.

Every trial is a file: killed, the same command goes on. Trials of another state of the source are done again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from paper_repro.command import command, parser
from paper_repro.record import write_json

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}  # read at import

import torch

import convergence
import paper_repro
import scala
from paper_repro.faults import damage, faults_page, kills
from paper_repro.faults.kills import Trial
from paper_repro.faults.own_data import Adaptation
from paper_repro.faults.sweep_under_test import SweepUnderTest
from paper_repro.record import provenance, write_whole
from scala.adapt import quiet

_VERSIONED = ("torch", "transformers", "safetensors", "filelock", "scala-adapt")


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        name: of its files.
        what: what is done, and to what; for the table.
        then: what the user does.
        trial: story(sweep, folder, random numbers).
        strikes: how often, of a hundred kills (`kill`), or in all.
        kill: whether it counts as a random kill.
    """

    name: str
    what: str
    then: str
    trial: Callable[[SweepUnderTest, Path, random.Random], Trial]
    strikes: int
    kill: bool = False

    def wanted(self, asked: int) -> int:
        """Strikes, where so many random kills are asked for."""
        return math.ceil(self.strikes * asked / 100) if self.kill else math.ceil(self.strikes * min(1, asked / 200))


def _checkpoint(how: damage.Damage) -> Callable[[SweepUnderTest, Path, random.Random], Trial]:
    return partial(damage.checkpoint_damaged, damage=how)


def _result(how: damage.Damage) -> Callable[[SweepUnderTest, Path, random.Random], Trial]:
    return partial(damage.result_damaged, damage=how)


def _certificate(_: SweepUnderTest, out: Path, draw: random.Random) -> Trial:
    return damage.certificate_damaged(out, draw)


class _Ddp:
    """Two workers are compared with two workers: their sums are rounded otherwise than one's."""

    undisturbed: dict[str, Any] | None = None

    def __call__(self, test: SweepUnderTest, out: Path, draw: random.Random) -> Trial:
        self.undisturbed = self.undisturbed or kills.ddp_undisturbed(test, out.with_name("ddp-undisturbed"))
        return kills.ddp_worker_killed(test, out, draw, self.undisturbed)


_AGAIN = "the same command"
FAULTS = (
    Fault(
        "training",
        "SIGKILL of a training run, at times uniform over the run, up to six times, until it is done",
        _AGAIN,
        kills.killed_in_training,
        35,
        True,
    ),
    Fault("sweep", "The same of a sweep of three runs", _AGAIN, kills.killed_in_sweep, 25, True),
    Fault(
        "adapt",
        "`scala-adapt` killed at random times, or at random bytes of what it writes, up to six times, until it is done",
        _AGAIN,
        Adaptation().trial,
        15,
        True,
    ),
    Fault(
        "writes",
        "Killed by the system at a random byte of a file that the sweep writes (checkpoints, results; also by C++ and Rust)",
        _AGAIN,
        kills.killed_in_writes,
        15,
        True,
    ),
    Fault(
        "two-at-once",
        "Two sweeps in one folder at once, one of them killed (SIGKILL) at a random time",
        "nothing: the other takes over",
        kills.two_at_once,
        10,
        True,
    ),
    Fault(
        "ddp",
        "SIGKILL of one of two workers (torchrun, gloo), at a random time after the first checkpoint",
        _AGAIN,
        _Ddp(),
        2,
    ),
    Fault("interrupt", "SIGINT (Ctrl-C) to a sweep at a random time", _AGAIN, kills.interrupted, 8),
    Fault("disk-full", "The disk fills up at a random byte of a sweep's writes", f"make room, {_AGAIN}", damage.disk_full, 8),
    Fault(
        "checkpoint-truncated",
        "A random file of a whole checkpoint cut off at a random byte",
        _AGAIN,
        _checkpoint(damage.truncated),
        8,
    ),
    Fault(
        "checkpoint-tampered",
        "A random byte of a random file of a whole checkpoint changed",
        _AGAIN,
        _checkpoint(damage.flipped),
        8,
    ),
    Fault(
        "result-truncated",
        "A finished run's result cut off at a random byte",
        f"delete the file that is named, {_AGAIN}",
        _result(damage.truncated),
        6,
    ),
    Fault(
        "result-misshapen",
        "Something in a result removed, of another kind, no finite number, or of another run",
        f"delete the file that is named, {_AGAIN}",
        _result(damage.result_misshapen),
        6,
    ),
    Fault(
        "result-tampered",
        "One random digit of a result changed",
        f"delete the file that is named, {_AGAIN}",
        _result(damage.digit_changed),
        6,
    ),
    Fault(
        "certificate",
        "A theorem's certificate cut off, or one multiplier of it changed, given to the stand-alone verifier",
        "`make theory` writes it anew",
        _certificate,
        40,
    ),
    Fault(
        "nan",
        "A weight becomes NaN after a random step of one of the sweep's runs",
        f"delete the record of divergence, {_AGAIN}",
        damage.nan_in_weights,
        6,
    ),
)


class Trials:
    """Finished trials as files, each good for the very source that it tried."""

    def __init__(self, folder: Path) -> None:
        digest = hashlib.sha256()
        for package in (scala, convergence, paper_repro):
            for path in sorted(Path(package.__path__[0]).rglob("*.py")):
                digest.update(path.read_bytes())
        self.folder, self.source = folder, digest.hexdigest()

    def done(self, fault: Fault, number: int) -> dict[str, Any] | None:
        """A trial that is there, as `Trial.document` gives it."""
        try:
            stored = json.loads(self._path(fault, number).read_text(encoding="utf-8"))
            return stored["trial"] if stored["source"] == self.source else None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # none yet, or damaged: it is done again

    def keep(self, fault: Fault, number: int, trial: Trial) -> dict[str, Any]:
        """Write it down."""
        document = trial.document()
        write_json(self._path(fault, number), {"source": self.source, "trial": document}, compact=True)
        return document

    def _path(self, fault: Fault, number: int) -> Path:
        return self.folder / f"{fault.name}-{number:03}.json"


def do(fault: Fault, test: SweepUnderTest, folder: Path, trials: Trials, wanted: int) -> list[dict[str, Any]]:
    """Trials of one fault, those that are there and new ones, until it has struck as often as is wanted."""
    found: list[dict[str, Any]] = []
    while sum(trial["strikes"] for trial in found) < wanted and len(found) < 10 * wanted:
        number = len(found)
        trial = trials.done(fault, number)
        if trial is None:
            out = folder / fault.name
            shutil.rmtree(out, ignore_errors=True)
            trial = trials.keep(fault, number, fault.trial(test, out, random.Random(f"{fault.name} {number}")))
            for lost in trial["lost"]:
                print(f"LOST  {fault.name} {number}: {lost}", flush=True)
        found.append(trial)
    return found


def import_seconds() -> float:
    """What a fresh process of the sweep needs before it begins."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "paper_repro.sweep", "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if nothing was lost, 1 if something was, 130 if interrupted."""
    asked = parser("paper_repro.faults", __doc__)
    asked.add_argument("--kills", type=int, default=200, help="random kills; the other faults in proportion (default: 200)")
    asked.add_argument("--out", type=Path, default=Path("runs/faults"), help="folder of the trials (default: %(default)s)")
    asked.add_argument("--record", type=Path, help="JSON file of what happened (default: in OUT)")
    asked.add_argument("--page", type=Path, help="Markdown file of the table (default: in OUT)")
    asked.add_argument("--only", nargs="+", metavar="FAULT", choices=[fault.name for fault in FAULTS], help="these alone")
    options = asked.parse_args(arguments)
    if options.kills < 1:
        asked.error(f"--kills must be at least 1, got {options.kills}")
    torch.set_num_threads(1)  # a fork has one thread
    quiet()
    trials = Trials(options.out / "trials")
    for left in options.out.glob("work-*"):
        shutil.rmtree(left, ignore_errors=True)
    work = options.out / f"work-{os.getpid()}"  # victims of one that was killed may live on for a moment
    began = time.perf_counter()
    test = SweepUnderTest.prepared(work)
    rows = []
    for fault in FAULTS:
        if not options.only or fault.name in options.only:
            found = do(fault, test, work, trials, fault.wanted(options.kills))
            rows.append(faults_page.row(fault.name, fault.what, fault.then, fault.kill, found))
            print(f"[{time.perf_counter() - began:.0f} s] {faults_page.line(rows[-1])}", flush=True)
    record = {
        "kills": sum(row["strikes"] for row in rows if row["kill"]),
        "undisturbed_seconds": {"run": test.one, "sweep": test.seconds},
        "import_seconds": import_seconds(),
        "faults": rows,
        "provenance": provenance(_VERSIONED),
    }
    write_json(options.record or options.out / "faults.json", record)
    write_whole(options.page or options.out / "faults.md", faults_page.written(record))
    shutil.rmtree(work, ignore_errors=True)
    return 1 if any(row["lost"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
