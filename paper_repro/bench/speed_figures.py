"""Two pictures of a record: how the cost grows, and where a round's time goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from paper_repro.bench.phases import KINDS, PHASES

_COLOURS = dict(zip(KINDS, ("#4477aa", "#66ccee", "#ccbb44", "#ee6677", "#228833", "#aa3377", "#bbbbbb"), strict=True))
_STEPS = ("#222222", "#cc3311")
_MILLI = 1e3


def growth_figure(growth: dict[str, Any]) -> Figure:
    """One panel an axis and one for K: medians with the least and the greatest, the arithmetic's floor as a line.

    Args:
        growth: what `measure_growth` returned.
    """
    panels = len(growth["axes"]) + 1
    figure = Figure(figsize=(3.1 * panels, 3.6), layout="constrained")
    axes = figure.subplots(1, panels)
    for panel, axis in zip(axes, growth["axes"], strict=False):
        for colour, row in zip(_STEPS, axis["rows"], strict=True):
            label = f"{row['name']}: {row['measured_slope']['slope']:.2f}, count {row['predicted_slope']['slope']:.2f}"
            _points(panel, axis["values"], row["seconds"], _MILLI, colour=colour, label=label)
            panel.plot(axis["values"], [s * _MILLI for s in row["predicted"]], "-", color=colour, lw=1.2, alpha=0.8)
        sized = ", millions of parameters" if _grows(axis) else ""
        panel.set(xscale="log", yscale="log", xlabel=axis["axis"] + sized)
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xticks(axis["values"], _ticks(axis))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.legend(fontsize=7, loc="upper left", title="slopes", title_fontsize=7, frameon=False)
        low, high = panel.get_ylim()
        panel.set_ylim(low, high * 3)  # room for the legend
    axes[0].set_ylabel("ms a step; lines: the count's floor")
    steps, last = growth["steps"], axes[-1]
    label = f"measured: 1 + {steps['measured_slope']['slope']:.2f} K"
    _points(last, steps["values"], steps["ratios"], 1, colour=_STEPS[1], label=label)
    count = f"count: 1 + {steps['predicted_slope']['slope']:.2f} K"
    last.plot(steps["values"], steps["predicted"], "-", color=_STEPS[1], lw=1.2, alpha=0.8, label=count)
    last.set(xlabel="ascent steps K", ylabel="times a plain step", xticks=steps["values"])
    last.legend(fontsize=8, loc="upper left", frameon=False)
    for panel in axes:
        panel.grid(alpha=0.25)
    return figure


def _grows(axis: dict[str, Any]) -> bool:
    return bool(axis["parameters"][-1] > 1.2 * axis["parameters"][0])


def _ticks(axis: dict[str, Any]) -> list[str]:
    if not _grows(axis):
        return [str(value) for value in axis["values"]]
    return [f"{value}\n{count / 1e6:.2g}" for value, count in zip(axis["values"], axis["parameters"], strict=True)]


def _points(
    panel: Axes, x: Sequence[float], spreads: Sequence[dict[str, float]], unit: float, *, colour: str, label: str
) -> None:
    medians = [s["median"] * unit for s in spreads]
    below = [(s["median"] - s["least"]) * unit for s in spreads]
    above = [(s["greatest"] - s["median"]) * unit for s in spreads]
    panel.errorbar(x, medians, yerr=[below, above], fmt="o", ms=4, capsize=2, lw=1, color=colour, label=label)


def phases_figure(profiles: dict[str, dict[str, Any]]) -> Figure:
    """A panel a step, a bar a phase, a colour a kind.

    Args:
        profiles: what `profile_round` returned, by the step's name.
    """
    figure = Figure(figsize=(10, 0.9 + 2.2 * len(profiles)), layout="constrained")
    panels = figure.subplots(len(profiles), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (name, profiled) in zip(panels, profiles.items(), strict=True):
        phases = [phase for phase in PHASES if sum(profiled["seconds"][phase].values()) > 0]
        whole = sum(sum(row.values()) for row in profiled["seconds"].values())
        left = [0.0] * len(phases)
        for kind in KINDS:
            widths = [max(0.0, profiled["seconds"][phase][kind]) * _MILLI for phase in phases]
            panel.barh(phases, widths, left=left, color=_COLOURS[kind], label=kind, height=0.75)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        for phase, end in zip(phases, left, strict=True):
            panel.text(end, phase, f" {end:.0f} ms, {end / whole / _MILLI:.0%}", va="center", fontsize=8)
        panel.invert_yaxis()
        panel.set_title(f"{name}: {whole * _MILLI:.0f} ms", loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("ms a round, under the profiler")
    panels[-1].set_xlim(right=panels[-1].get_xlim()[1] * 1.12)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(KINDS), fontsize=8, frameon=False
    )
    return figure
