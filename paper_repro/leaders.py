"""The table that chooses the leader: who is best on held-out sentences, and how well its rate must be known.

    python -m paper_repro.leaders

reads the summaries that `make leaders` writes into `results/leaders/`: `rates/` has a grid of rates for each leader, one seed;
the folder itself the best rate of each, three seeds.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from paper_repro.tables import markdown

LEADERS = Path(__file__).parent / "results" / "leaders"
SHOWN = {"accuracy": 100, "matthews_correlation": 100, "pearson": 100}
"""By which a metric is multiplied where it is shown."""


def summaries(folder: Path = LEADERS) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """For each task the summary of the three seeds, and that of the grid.

    Raises:
        ValueError: one is there without the other, or is damaged.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(tuple(json.loads(p.read_text(encoding="utf-8")) for p in (path, folder / "tuning" / path.name)))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{path}: it and tuning/{path.name} must both be there ({error}); make leaders writes them"
            ) from error
    return found  # type: ignore[return-value]


def table(seeds: dict[str, Any], grid: dict[str, Any]) -> str:
    """A task's leaders, the best first, as Markdown.

    Columns: the score, mean over seeds with Student's 95% interval; the difference to the best leader at the large batch, seed
    by seed, likewise; the best rate; the scores of the grid, each rate twice the one before, the best in bold.
    """
    scale = SHOWN[seeds["metric"]]
    of_batch = {line["method"]: line["method"].endswith("-32") for line in seeds["lines"]}
    large = [line for line in seeds["lines"] if not of_batch[line["method"]]]
    complete = max(len(line["seeds"]) for line in large)
    best = max((line for line in large if len(line["seeds"]) == complete), key=lambda line: line["score"])
    rows = []
    for line in sorted(seeds["lines"], key=lambda line: -line["score"]):
        tried = sorted(
            (one["settings"]["learning_rate"], one["score"]) for one in grid["lines"] if one["method"] == line["method"]
        )
        chosen = grid["methods"][line["method"]]["best"]["learning_rate"]
        scores = [f"**{scale * score:.1f}**" if rate == chosen else f"{scale * score:.1f}" for rate, score in tried]
        difference = "the best at its batch" if line is best else _shown(*_paired(line, best), scale, sign="+")
        rows.append(
            [
                line["method"],
                _shown(line["score"], line["interval"], scale) + f" n={len(line['seeds'])}",
                difference,
                f"{chosen:g}",
                ", ".join(scores),
                f"{tried[0][0]:g}",
            ]
        )
    head = ["leader", "score", f"against {best['method']}", "best rate", "score along the grid", "from rate"]
    return markdown((head, rows))


def _paired(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, list[float] | None]:
    """Mean difference over the seeds that both have, and its interval; None for one seed."""
    theirs = dict(zip(other["seeds"], other["scores"], strict=True))
    differences = [score - theirs[seed] for seed, score in zip(one["seeds"], one["scores"], strict=True) if seed in theirs]
    mean = float(np.mean(differences))
    if len(differences) < 2:
        return mean, None
    half = float(stats.t.ppf(0.975, len(differences) - 1) * np.std(differences, ddof=1) / math.sqrt(len(differences)))
    return mean, [mean - half, mean + half]


def _shown(mean: float, interval: list[float] | None, scale: float, sign: str = "") -> str:
    if interval is None:
        return f"{scale * mean:{sign}.1f} (one seed)"
    return f"{scale * mean:{sign}.1f} [{scale * interval[0]:{sign}.1f}, {scale * interval[1]:{sign}.1f}]"


def page(folder: Path = LEADERS) -> str:
    """A table a task."""
    parts = []
    for seeds, grid in summaries(folder):
        parts.append(f"**{seeds['task']}**, {seeds['model']}, {seeds['metric'].replace('_', ' ')} on held-out sentences:")
        parts.append(table(seeds, grid))
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page() + "\n")
