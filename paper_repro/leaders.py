"""The tables of the leader: who is best on held-out sentences, how well its rate must be known, and what noise does to that.

    python -m paper_repro.leaders

reads the summaries that `make leaders` writes into `results/leaders/`: `rates/` has a grid of rates for each leader, one seed;
the folder itself the best rate of each, three seeds; `noise/` leaders with and without noise, at their best rate and above.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from paper_repro.analysis.statistics import student
from paper_repro.analysis.table import Table

LEADERS = Path(__file__).parent / "results" / "leaders"
POINTS = 100
"""Scores between 0 and 1 are shown in points."""


def summaries(folder: Path = LEADERS) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """For each task the summary of the three seeds, and that of the grid.

    Raises:
        ValueError: one is there without the other, or is damaged.
    """
    found = []
    for path in sorted(folder.glob("*-leaders.json")):
        rates = folder / "rates" / path.name.replace("-leaders", "-leader-rates")
        try:
            seeds, grid = (json.loads(file.read_text(encoding="utf-8")) for file in (path, rates))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} and {rates} must both be there, whole ({error}); make leaders writes them") from error
        found.append((seeds, grid))
    return found


def table(seeds: dict[str, Any], grid: dict[str, Any]) -> str:
    """A task's leaders, the best first, as Markdown.

    Columns: the score, mean over seeds with Student's 95% interval; the difference to the best leader at the large batch, seed
    by seed, likewise; the best rate; the scores of the grid, each rate twice the one before, the best in bold.
    """
    large = [line for line in seeds["lines"] if not line["method"].endswith("-32")]
    complete = max(len(line["seeds"]) for line in large)
    best = max((line for line in large if len(line["seeds"]) == complete), key=lambda line: line["score"])
    rows = []
    for line in sorted(seeds["lines"], key=lambda line: -line["score"]):
        tried = sorted(
            (one["settings"]["learning_rate"], one["score"]) for one in grid["lines"] if one["method"] == line["method"]
        )
        chosen = grid["methods"][line["method"]]["best"]["learning_rate"]
        scores = [f"**{POINTS * score:.1f}**" if rate == chosen else f"{POINTS * score:.1f}" for rate, score in tried]
        difference = "the best at its batch" if line is best else _shown(*paired(line, best), sign="+")
        rows.append(
            [
                line["method"],
                _shown(line["score"], line["interval"]) + f" n={len(line['seeds'])}",
                difference,
                f"{chosen:g}",
                ", ".join(scores),
                f"{tried[0][0]:g}",
            ]
        )
    head = ["leader", "score", f"against {best['method']}", "best rate", "score along the grid", "from rate"]
    return Table(head, rows).markdown()


def noise_table(summary: dict[str, Any]) -> str:
    """What noise, or a control, gains on its leader without it, at each rate: paired over seeds, as Markdown."""
    lines = {(line["method"], line["settings"]["learning_rate"]): line for line in summary["lines"]}
    rows = []
    for (method, rate), line in sorted(lines.items(), key=lambda item: (item[0][0].partition("-")[0] != "lamb", item[0])):
        leader, _, added = method.partition("-")
        if added:
            without = lines[leader, rate]
            scores = [_shown(without["score"], None), _shown(line["score"], None)]
            rows.append([leader, added, f"{rate:g}", *scores, _shown(*paired(line, without), sign="+")])
    return Table(["leader", "added", "rate", "without", "with", "difference"], rows).markdown()


def paired(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, list[float] | None]:
    """Mean difference of two lines over the seeds that both have, and Student's 95% interval; None for one seed."""
    theirs = dict(zip(other["seeds"], other["scores"], strict=True))
    differences = [score - theirs[seed] for seed, score in zip(one["seeds"], one["scores"], strict=True) if seed in theirs]
    return float(np.mean(differences)), student(differences)


def _shown(mean: float, interval: list[float] | None, sign: str = "") -> str:
    if interval is None:
        return f"{POINTS * mean:{sign}.1f}"
    return f"{POINTS * mean:{sign}.1f} [{POINTS * interval[0]:{sign}.1f}, {POINTS * interval[1]:{sign}.1f}]"


def page(folder: Path = LEADERS) -> str:
    """A table a task."""
    parts = []
    for seeds, grid in summaries(folder):
        parts.append(f"**{seeds['task']}**, {seeds['model']}, {seeds['metric'].replace('_', ' ')} on held-out sentences:")
        parts.append(table(seeds, grid))
    for path in sorted((folder / "noise").glob("*.json")):
        summary = json.loads(path.read_text(encoding="utf-8"))
        parts.append(
            f"**Noise, {summary['task']}**, {summary['model']}, {summary['metric']} on held-out sentences, three seeds:"
        )
        parts.append(noise_table(summary))
    return "\n\n".join(parts)


def main() -> int:
    """Print the tables; returns the exit status."""
    try:
        print(page())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
