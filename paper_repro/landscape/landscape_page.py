"""A landscape record in words and numbers, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, geometric_mean
from typing import Any

from paper_repro.analysis.table import Table


def page(record: Mapping[str, Any]) -> str:
    """The finished models' measures and what they say, as Markdown."""
    methods = list(dict.fromkeys(run["method"] for run in record["runs"]))
    reference = "lamb" if "lamb" in methods else methods[0]
    seeds = sorted({run["seed"] for run in record["runs"]})
    agrees = record["agrees"]
    lines = [
        f"# The loss landscape of {record['model']} on {record['task']}",
        "",
        f"Finished models of seeds {', '.join(map(str, seeds))}, on {record['data']['sentences']} training sentences; "
        f"{agrees['with_committed_runs']} of {agrees['of']} runs predict exactly as the committed ones.",
        "",
        f"Geometric means over seeds. Ratios are over {reference}, with Tukey's 95% intervals; p: analysis of variance of the "
        "logarithms over methods, corrected by Holm for the measures; r: the logarithm's correlation with the dev score, over "
        "all runs and within methods.",
        "",
        Table(
            ["measure", *methods, "p", "r with score", "within methods"],
            [[row["label"], *_compared(row, methods, reference)] for row in record["separation"]],
        ).markdown(aligned=False),
        "",
        "Barriers: how far the loss on the segment between two finished models rises above the line between their losses; "
        "mean, least and greatest, over seeds between methods and over pairs of seeds within one.",
        "",
        Table(
            ["from, to", *methods], [[start, *(_barrier(record, start, end) for end in methods)] for start in methods]
        ).markdown(aligned=False),
    ]
    return "\n".join(lines) + "\n"


def _compared(row: Mapping[str, Any], methods: Sequence[str], reference: str) -> list[str]:
    if row["p"] is None:
        return [*("-" for _ in methods), "not positive, or no spread", "-", "-"]
    cells = [_cell(row, method, reference) for method in methods]
    return [*cells, f"{row['p_holm']:.2g}", _r(row["score"]), _r(row["score_within"])]


def _barrier(record: Mapping[str, Any], start: str, end: str) -> str:
    heights = [one["height"] for one in record["barriers"] if {one["start"], one["end"]} == {start, end}]
    return f"{fmean(heights):.2f} [{min(heights):.2f}, {max(heights):.2f}]" if heights else "-"


def _cell(row: Mapping[str, Any], method: str, reference: str) -> str:
    mean = f"{geometric_mean(row['values'][method]):.3g}"
    for pair in row["pairs"]:
        if (pair["method"], pair["against"]) == (method, reference):
            return f"{mean} ({pair['ratio']:.2f} [{pair['low']:.2f}, {pair['high']:.2f}])"
    return mean


def _r(found: Mapping[str, float] | None) -> str:
    return "-" if found is None else f"{found['r']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"
