"""The table of faults, from what the trials found."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from paper_repro.analysis.table import Table


def row(name: str, what: str, then: str, kill: bool, trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What happened in a fault's trials together.

    Returns:
        Beside the arguments: `trials` and `strikes` (how many), `seen` (an example of each kind of message, the most frequent
        first, and how often), `lost` (in words), `seconds` (median and the greatest; each trial's mean over its strikes).
    """
    struck = [trial for trial in trials if trial["strikes"]]
    said = [trial["said"] for trial in struck]
    kinds = Counter(_kind(text) for text in said)
    examples = {_kind(text): text for text in reversed(said)}
    seconds = [trial["seconds"] for trial in struck]
    return {
        "name": name,
        "what": what,
        "then": then,
        "kill": kill,
        "trials": len(trials),
        "strikes": sum(trial["strikes"] for trial in trials),
        "seen": [{"example": examples[kind], "times": times} for kind, times in kinds.most_common()],
        "lost": [lost for trial in trials for lost in trial["lost"]],
        "seconds": {"median": statistics.median(seconds), "greatest": max(seconds)} if seconds else None,
    }


def _kind(text: str) -> str:
    """A message without what differs from trial to trial: file names, numbers, what stands in brackets."""
    return re.sub(r"[\w./-]*\d[\w./-]*|\(.*\)|'.*?'|\[.*?\]", "#", text)


def line(row: dict[str, Any]) -> str:
    """A row for the terminal."""
    return f"{row['name']}: struck {row['strikes']} times in {row['trials']} trials, {_lost(row)} lost, {_seconds(row)}"


def written(record: dict[str, Any]) -> str:
    """The page, in Markdown."""
    known, normal = record["provenance"], record["undisturbed_seconds"]
    struck = sum(row["strikes"] for row in record["faults"])
    rows = []
    for row in record["faults"]:
        cells = [row["what"], f"{row['strikes']:,}", _seen(row), row["then"], _lost(row), _seconds(row)]
        rows.append(cells)
    losses = [f"- {row['name']}: {text}" for row in record["faults"] for text in row["lost"]]
    return _PAGE.format(
        kills=record["kills"],
        struck=struck,
        verdict=f"**losses: {len(losses)}**, named below the table" if losses else "nothing that was finished was lost",
        table=Table(_HEAD, rows).markdown(aligned=False),
        losses="\n".join(["", "## What was lost", "", *losses, ""]) if losses else "",
        hardware=known["hardware"],
        run=normal["run"],
        sweep=normal["sweep"],
        imports=record["import_seconds"],
        finished=known["finished"],
        commit=known["commit"] or "unknown",
    )


_HEAD = ("what was done", "how often", "what the user sees", "then", "lost", "seconds to recover: median, greatest")
_PAGE = """\
# Faults

Made by `make faults`, which does what can go wrong to the real commands and compares what they find in the end with what they
find undisturbed. This time: **{kills} random kills** among {struck} faults; {verdict}.

{table}
{losses}
## How to read it

- The victim is the real sweep (`python -m paper_repro.sweep`) of three runs (LAMB, ScaLA, ScaLA with a warm start), or
  `scala-adapt`, on a tiny random encoder and made-up sentences: 12 steps a run, a checkpoint every second step, one kept. To
  make many kills affordable, victims are forked from one process that has imported the libraries; torchrun's are not.
- Nothing is lost if, after every blow, each result that is there can be read; if in the end none that was finished has
  changed by a byte; if all results (predictions, losses, curves, log of the training with its noise norms and trust ratios,
  the weights that `scala-adapt` writes; not times) equal those never disturbed, bit for bit; and if no checkpoint is left
  behind. Damage must also be noticed and named, with what to do: where it is not, that counts as lost.
- Seconds to recover are what the story took longer than undisturbed, a blow: to start again, to load, and to do again what
  no checkpoint held. They are this machine's ({hardware}, one thread, other work beside it), where
  undisturbed a run takes {run:.1f} s and the sweep {sweep:.1f} s; below zero, the
  machine was less busy than when those were timed. A fresh process needs {imports:.0f} s more, for its imports; torchrun's
  numbers hold that. With a real encoder what is done again is at most the time between two checkpoints or, where the only
  checkpoint was damaged from outside, the run up to it.
- The full disk is a file system in memory, where the system lets us mount one; else the size of files is limited, and the
  message says so.
- Not tried: a machine that loses its power. Files are renamed into place whole, but not forced to the disk. Two `scala-adapt`
  in one folder are not kept apart; sweeps are, by locks.

{finished}, commit {commit}. Every kind of message, and how often it came, is in `paper_repro/results/faults.json`.
"""


def _seen(row: dict[str, Any]) -> str:
    # A line of progress is what a killed sweep happened to print last.
    telling = [text for one in row["seen"] if (text := one["example"]) and ("diverged" in text or not text.startswith("["))]
    return f"`{_short(telling[0])}`" if telling else "nothing (the shell says `Killed`)"


def _short(text: str, limit: int = 240) -> str:
    return text if len(text) <= limit else f"{text[:limit]} ..."


def _lost(row: dict[str, Any]) -> str:
    return f"{len(row['lost'])} times" if row["lost"] else "nothing"


def _seconds(row: dict[str, Any]) -> str:
    return "-" if row["seconds"] is None else f"{row['seconds']['median']:.1f}, {row['seconds']['greatest']:.1f}"
