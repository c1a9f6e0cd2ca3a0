"""Two pictures: how the speed-up grows with the devices, and which input decides it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from paper_repro.scaling.predict import CLAIMED_BATCH, CLAIMS, READINGS

_COLOURS = dict(zip(READINGS, ("#0072B2", "#D55E00", "#009E73"), strict=True))
_BASIS = {"measured": "#0072B2", "assumed": "#999999"}
_LEAST_SHARE = 0.005
_BARS = 8


def speedup_figure(studies: Sequence[dict[str, Any]], batch: int = CLAIMED_BATCH) -> Figure:
    """Speed-up against devices at one global batch, a panel a study, a band a reading of the baseline's hardware.

    Args:
        studies: documents of `paper_repro.scaling.predict.Study`.
        batch: global.
    """
    figure = Figure(figsize=(5.2 * len(studies), 4.6), layout="constrained")
    panels = figure.subplots(1, len(studies), sharey=True, squeeze=False)[0]
    for panel, study in zip(panels, studies, strict=True):
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
            panel.annotate(
                f"{claimed:g}x", (devices[0], claimed), xytext=(2, 2), textcoords="offset points", fontsize=8, color="0.3"
            )
        panel.axhline(1, lw=0.9, color="0.2", zorder=0)
        panel.set(xscale="log", yscale="log", xlabel="devices (global batch fixed)", ylim=(0.08, 300))
        panel.xaxis.set_minor_locator(NullLocator())
        shown = devices[::2]
        panel.set_xticks(shown, [str(number) for number in shown])
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.25)
        panel.set_title(f"{study['model']}\n{study['hardware']}", fontsize=9)
    panels[0].set_ylabel(f"speed-up of ScaLA at batch {batch:,}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False, title="speed-up over")
    figure.suptitle(
        f"Modelled, not run ({_basis(studies)}): median and 95% of the inputs' range; dashed: the paper's speed-ups",
        fontsize=10,
    )
    return figure


def tornado_figure(studies: Sequence[dict[str, Any]], claimed: float = CLAIMS[1][0]) -> Figure:
    """The speed-up with each input alone at the ends of its range: a row of panels a study, a panel a reading.

    Args:
        studies: documents of `paper_repro.scaling.predict.Study`.
        claimed: whose conditions are shown.
    """
    figure = Figure(figsize=(4.4 * len(READINGS), 2.9 * len(studies) + 0.6), layout="constrained")
    grid = figure.subplots(len(studies), len(READINGS), squeeze=False, sharex=True)
    for panels, study in zip(grid, studies, strict=True):
        found = [row for row in study["conditions"] if row["claimed"] == claimed]
        for panel, row in zip(panels, found, strict=True):
            bars = [bar for bar in row["decides"] if bar["high"] / bar["low"] > 1 + _LEAST_SHARE][:_BARS]
            for place, bar in enumerate(bars):
                panel.barh(place, bar["high"] - bar["low"], left=bar["low"], color=_BASIS[bar["basis"]], height=0.7)
                panel.text(bar["high"] * 1.06, place, f"{bar['share']:.0%}", va="center", fontsize=7)
            panel.set_yticks(range(len(bars)), [bar["name"].replace("_", " ") for bar in bars], fontsize=8)
            panel.axvline(row["speedup"]["median"], lw=0.9, color="0.2", zorder=0)
            panel.axvline(claimed, ls="--", lw=0.9, color="0.3")
            panel.invert_yaxis()
            panel.set(xscale="log")
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.grid(alpha=0.25, axis="x")
            panel.set_title(f"{study['model']}, over {row['reading']}", fontsize=9)
    ends = [(bar["low"], bar["high"]) for study in studies for row in study["conditions"] for bar in row["decides"]]
    for panel in grid[-1]:
        panel.set(xlabel="speed-up", xlim=(0.8 * min(low for low, _ in ends), 2 * max(claimed, *(high for _, high in ends))))
    figure.suptitle(
        f"Which input decides: batch {found[0]['batch']:,} on {found[0]['devices']} devices, each input alone over its range "
        f"(grey: assumed, blue: measured; %: its share of the variance; line: the median; dashed: {claimed:g}x)",
        fontsize=10,
    )
    return figure


def _basis(studies: Sequence[dict[str, Any]]) -> str:
    found = {given["basis"] for study in studies for given in study["inputs"].values()}
    return "inputs assumed" if found == {"assumed"} else "some inputs measured, the others assumed"
