"""Two pictures: how the speed-up grows with the devices, and which input decides it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from paper_repro.scaling.predict import CLAIMED_BATCH, CLAIMS, READINGS

_COLOURS = dict(zip(READINGS, ("#0072B2", "#D55E00", "#009E73"), strict=True))
_BASIS = {"measured": "#0072B2", "carried over": "#56B4E9", "assumed": "#999999"}
INPUTS = {
    "critical": "critical batch",
    "excess": "steps over the law's",
    "delay": "share before the noise",
    "per_sample": "time a sample",
    "floor": "floor of a micro-batch",
    "overhead": "overhead of a micro-batch",
    "ascent": "time of an ascent",
    "adamw": "time of AdamW's step",
    "lamb": "LAMB's over AdamW's",
    "overlap": "all-reduce hidden",
    "bandwidth": "bandwidth",
    "latency": "latency",
    "node_bandwidth": "bandwidth of nodes",
    "node_latency": "latency of nodes",
    "gradient_bytes": "bytes a gradient",
    "backward": "share of the backward pass",
    "sharing": "devices that share a machine",
}
"""The model's inputs in words."""
_LEAST_SHARE = 0.005
_BARS = 8


def speedup_figure(studies: Sequence[dict[str, Any]], batch: int = CLAIMED_BATCH) -> Figure:
    """Speed-up against devices at one global batch, a panel a study, a band a reading of the baseline's hardware.

    Args:
        studies: documents of `paper_repro.scaling.predict.Study`; a column a model, a row a B_crit.
        batch: global.
    """
    models = list(dict.fromkeys(study["model"] for study in studies))
    lines = len(studies) // len(models)
    figure = Figure(figsize=(5.2 * len(models), 3.7 * lines + 1.1), layout="constrained")
    grid = figure.subplots(lines, len(models), sharex=True, sharey=True, squeeze=False)
    for panel, study in zip(grid.flat, studies, strict=True):
        rows = [row for row in study["rows"] if row["batch"] == batch]
        devices = [row["devices"] for row in rows]
        for reading, colour in _COLOURS.items():
            spread = [row["speedup"][reading] for row in rows]
            low, median, high = ([at[key] for at in spread] for key in ("low", "median", "high"))
            label = f"AdamW, batch 32, {'the fastest number of devices' if reading == 'fastest' else reading}"
            panel.plot(devices, median, "o-", ms=3, lw=1.5, color=colour, label=label)
            panel.fill_between(devices, low, high, color=colour, alpha=0.13, lw=0)
        for claimed, _ in CLAIMS:
            panel.axhline(claimed, ls="--", lw=0.9, color="0.4", zorder=0)
        panel.axhline(1, lw=0.9, color="0.2", zorder=0)
        panel.set(xscale="log", yscale="log", ylim=(0.08, 300))
        panel.xaxis.set_minor_locator(NullLocator())
        shown = devices[::2]
        panel.set_xticks(shown, [str(number) for number in shown])
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.25)
        panel.set_title(f"{study['model']}; B_crit {_critical(study)}", fontsize=9)
    for panels in grid:
        panels[0].set_ylabel(f"speed-up of ScaLA at batch {batch:,}")
        for claimed, _ in CLAIMS:  # beside the panel: inside there are bands everywhere
            panels[-1].annotate(
                f"{claimed:g}x", (1.01, claimed), xycoords=("axes fraction", "data"), va="center", fontsize=8, color="0.3"
            )
    for panel in grid[-1]:
        panel.set_xlabel("devices (global batch fixed)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False, title="speed-up over")
    figure.suptitle(
        f"{studies[0]['hardware']}: modelled, not run\n"
        f"({_basis(studies)}; median and 95% of the inputs' range; dashed: the paper's speed-ups)",
        fontsize=10,
    )
    return figure


def tornado_figure(studies: Sequence[dict[str, Any]], claimed: float = CLAIMS[1][0], reading: str = READINGS[1]) -> Figure:
    """The speed-up with each input alone at the ends of its range, a panel a study.

    Args:
        studies: documents of `paper_repro.scaling.predict.Study`; a column a model, a row a B_crit.
        claimed: whose conditions are shown.
        reading: of the baseline's hardware.
    """
    models = list(dict.fromkeys(study["model"] for study in studies))
    lines = len(studies) // len(models)
    figure = Figure(figsize=(5.2 * len(models), 2.7 * lines + 1.0), layout="constrained")
    grid = figure.subplots(lines, len(models), squeeze=False, sharex=True)
    found = [
        next(row for row in study["conditions"] if (row["claimed"], row["reading"]) == (claimed, reading)) for study in studies
    ]
    shown = [[bar for bar in row["decides"] if bar["high"] / bar["low"] > 1 + _LEAST_SHARE][:_BARS] for row in found]
    for panel, study, row, bars in zip(grid.flat, studies, found, shown, strict=True):
        for place, bar in enumerate(bars):
            panel.barh(place, bar["high"] - bar["low"], left=bar["low"], color=_BASIS[bar["basis"]], height=0.7)
            panel.annotate(f"{bar['share']:.0%}", (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        panel.set_yticks(range(len(bars)), [INPUTS[bar["name"]] for bar in bars], fontsize=8)
        panel.axvline(row["speedup"]["median"], lw=0.9, color="0.2", zorder=0)
        panel.axvline(claimed, ls="--", lw=0.9, color="0.3")
        panel.invert_yaxis()
        panel.set(xscale="log")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.25, axis="x")
        panel.set_title(f"{study['model']}; B_crit {_critical(study)}", fontsize=9)
    ends = [(bar["low"], bar["high"]) for bars in shown for bar in bars]
    for panel in grid[-1]:
        panel.set_xlabel(f"speed-up over AdamW, batch 32, {reading}")
        panel.set_xlim(0.8 * min(low for low, _ in ends), 1.25 * max(claimed, *(high for _, high in ends)))
    bases = {bar["basis"] for bars in shown for bar in bars}
    handles = [Patch(color=colour, label=basis) for basis, colour in _BASIS.items() if basis in bases]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False, title="the input is")
    figure.suptitle(
        f"Which input decides: batch {found[0]['batch']:,} on {found[0]['devices']} devices, each input alone over its range\n"
        f"(right: its share of the variance; line: the median; dashed: {claimed:g}x)",
        fontsize=10,
    )
    return figure


def _critical(study: dict[str, Any]) -> str:
    given = study["inputs"]["critical"]
    return f"{given['basis']}: {given['typical']:,.0f} [{given['low']:,.0f}, {given['high']:,.0f}]"


def _basis(studies: Sequence[dict[str, Any]]) -> str:
    found = {given["basis"] for study in studies for given in study["inputs"].values()} - {"assumed"}
    return f"inputs assumed, some {' or '.join(sorted(found))}" if found else "inputs assumed"
