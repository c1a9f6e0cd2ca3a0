"""Three pictures of what was measured: noise scales beside the sweep, steps against batch size, predicted against measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from paper_repro.scaling.laws import Fit
from paper_repro.scaling.noise import KINDS, family_of

_COLOURS = {"adamw": "#E69F00", "lamb": "#0072B2", "scala": "#D55E00"}
_NAMES = {"adamw": "AdamW", "lamb": "LAMB", "scala": "ScaLA"}
_LAWS = {
    "critical": ("#000000", "-", "fitted law S(B) = S_min (1 + B_crit / B)"),
    "least": ("#009E73", "--", "fitted law of the theory, T(b) = T_inf / (1 - sqrt(b_min / b))²"),
}
_DEVICES = {1: "#0072B2", 2: "#D55E00"}
_MARKERS = {"adamw": "s", "lamb": "o", "scala": "^"}
_KINDS = {
    "noise_scale": ("simple noise scale, tr Σ / |G|²", "B_crit of the sweep, 95%"),
    "layerwise_noise_scale": ("layer-wise noise scale, (|σ|₁ / |G|₁)²", "b_min of the sweep, 95%"),
}
_STYLES = ("-", "--", ":")  # of a family's methods
_SEEDS = "left: a line a seed, bars 95%; at the upper edge: infinite, no gradient can be told from the noise"
_SPREAD = (0.94, 1.0, 1.06)  # seeds side by side


def noise_figure(record: Mapping[str, Any]) -> Figure:
    """Both noise scales along training, each beside the batch scale of the law that it predicts, on the same axis.

    Args:
        record: see `paper_repro.scaling.scaling_study.study`.
    """
    figure = Figure(figsize=(9.5, 6.8), layout="constrained")
    grid = figure.subplots(2, 2, sharex="col", sharey="row", width_ratios=(3, 2))
    rows = [(t, f) for t in record["sweep"]["targets"] for f in t["families"]]
    runs = None if record["noise"] is None else [run for run in record["noise"]["runs"] if family_of(run["method"])]
    for (left, right), kind in zip(grid, KINDS, strict=True):
        law = KINDS[kind]
        found = [f["fits"][law][key] for _, f in rows if f["fits"][law] for key in ("low", "scale", "high")]
        found += [point[kind][key] for run in runs or [] for point in run["points"] for key in ("scale", "low")]
        known = [value for value in found if value] or [1.0]
        for panel in (left, right):
            panel.set(yscale="log", ylim=(min(known) / 3, max(known) * 3))
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
            panel.yaxis.set_minor_formatter(NullFormatter())
            panel.grid(alpha=0.25)
        left.set(ylabel="batch size, samples", xlim=(-0.04, 1.04))
        left.set_title(_KINDS[kind][0], fontsize=10)
        right.set_title(_KINDS[kind][1], fontsize=10)
        if runs is None:
            _say(left, "not measured;\nmake landscape")
        else:
            _along(left, runs, kind)
        for place, (target, family) in enumerate(rows):
            _interval(right, place, family, law, filled=target is rows[0][0])
    grid[1, 0].set_xlabel("share of training")
    names = [f"{_NAMES[f['family']]}\nto {100 * t['score']:.1f}" for t, f in rows]
    grid[1, 1].set_xticks(range(len(rows)), names, fontsize=8)
    grid[1, 1].set_xlim(-0.6, max(len(rows), 1) - 0.4)
    if runs is not None:
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower left", ncols=3, fontsize=8, frameon=False, title_fontsize=8, title=_SEEDS
        )
    figure.suptitle("The critical batch: by the gradient's noise, and by the steps that runs really took", fontsize=11)
    return figure


def _along(panel: Axes, runs: Sequence[Mapping[str, Any]], kind: str) -> None:
    top = panel.get_ylim()[1]
    seen = set()
    methods = list(dict.fromkeys(run["method"] for run in runs))
    for run in runs:
        method = run["method"]
        family = family_of(method) or ""
        styles = [one for one in methods if family_of(one) == family]
        shift = 0.012 * (methods.index(method) - (len(methods) - 1) / 2)
        x = [point["share"] + shift for point in run["points"]]
        scale, low, high = (
            np.array([top if (end := point[kind][key]) is None else end for point in run["points"]])
            for key in ("scale", "low", "high")
        )
        label = None if method in seen else f"{_NAMES[family]}, batch {run['batch']:,}"
        seen.add(method)
        bars = np.clip([scale - low, high - scale], 0, None)
        panel.errorbar(
            x,
            scale,
            bars,
            fmt="o" + _STYLES[styles.index(method) % len(_STYLES)],
            ms=3,
            lw=1,
            elinewidth=0.6,
            alpha=0.75,
            color=_COLOURS[family],
            label=label,
        )


def _interval(panel: Axes, place: int, family: Mapping[str, Any], law: str, filled: bool) -> None:
    found = family["fits"][law]
    least, greatest = panel.get_ylim()
    if found is None:
        panel.text(place, least * 1.2, "too few\nbatch sizes", fontsize=7, ha="center", va="bottom", color="0.35")
        return
    ends = [greatest if found[key] is None else max(found[key], least) for key in ("low", "scale", "high")]
    colour = _COLOURS[family["family"]]
    panel.plot([place, place], [ends[0], ends[2]], lw=2, color=colour)
    panel.plot(place, ends[1], "o", ms=6, color=colour, mfc=colour if filled else "white")


def sweep_figure(swept: Mapping[str, Any]) -> Figure:
    """Steps to each target against the batch size, a row a target, a panel a method, with both fitted laws.

    Args:
        swept: see `paper_repro.scaling.batch_sweep.sweep`.
    """
    targets = swept["targets"]
    figure = Figure(figsize=(10.5, 3.1 * max(len(targets), 1) + 0.9), layout="constrained")
    if not targets:
        _say(figure.subplots(), "no runs of the baseline;\nmake studies, then make results")
        return figure
    grid = figure.subplots(len(targets), len(targets[0]["families"]), sharex=True, sharey=True, squeeze=False)
    batches = sorted({p["batch"] for t in targets for f in t["families"] for p in f["points"]})
    for panels, target in zip(grid, targets, strict=True):
        for panel, family in zip(panels, target["families"], strict=True):
            _steps(panel, family, swept["examples"], batches)
            panel.set_title(f"{_NAMES[family['family']]} to {100 * target['score']:.1f}, {target['name']}", fontsize=9)
        panels[0].set_ylabel("leader's steps")
    for panel in grid[-1]:
        panel.set_xlabel("batch size")
    handles = {name: handle for panel in grid.flat for handle, name in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.suptitle("Steps to the target: one epoch of SST-2 with bert-tiny, a mark a run", fontsize=11)
    return figure


def _steps(panel: Axes, family: Mapping[str, Any], examples: int, batches: Sequence[int]) -> None:
    points, colour = family["points"], _COLOURS[family["family"]]
    for point in points:
        x = point["batch"] * _SPREAD[point["seed"] % len(_SPREAD)]
        if point["by"] is None:
            panel.plot(x, point["of"], "^", ms=6, color=colour, mfc="white", ls="none")
        else:
            panel.plot(x, point["by"], "o", ms=5, color=colour, ls="none")
    panel.plot([], [], "o", ms=5, color="0.3", label="reached")
    panel.plot([], [], "^", ms=6, color="0.3", mfc="white", label="not reached by the run's end")
    across = np.geomspace(min(batches), max(batches), 100)
    panel.plot(across, examples / across, ":", lw=1, color="0.4", label="one epoch ends here")
    own = sorted({point["batch"] for point in points})
    for law, (line, style, label) in _LAWS.items():
        if (found := family["fits"][law]) is not None:
            fitted = Fit.of(found)
            x = np.geomspace(own[0], own[-1], 100)
            panel.plot(x, fitted.at(x), style, lw=1.4, color=line, label=label)
    if family["fits"]["critical"] is None:
        panel.text(0.04, 0.06, "reached at too few batch sizes for a fit", fontsize=8, transform=panel.transAxes, color="0.35")
    _log(panel)
    panel.set_xticks(batches, [f"{batch:,}" for batch in batches], rotation=35, fontsize=8)
    panel.grid(alpha=0.25)


def compared_figure(record: Mapping[str, Any]) -> Figure:
    """Predicted against measured: seconds of a step, and seconds to the target; on the line both agree.

    Args:
        record: see `paper_repro.scaling.scaling_study.study`.
    """
    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for row in record["step_time"]["rows"]:
        processes = "1 process" if row["devices"] == 1 else f"{row['devices']} processes"
        label = f"{_NAMES[row['method']]}, {processes}"
        _mark(left, row, _DEVICES[row["devices"]], _MARKERS[row["method"]], label)
    _diagonal(left, f"a step of {record['step_time']['encoder']}", "seconds")
    timed = record["target_time"]
    if timed is None:
        right.set(xticks=[], yticks=[])
        _say(right, "not compared;\nmake scaling GLUE_DIR=...")
    else:
        for row in timed["rows"]:
            kind = family_of(row["method"]) or ""
            _mark(right, row, _COLOURS[kind], _MARKERS[kind], _NAMES[kind])
        _diagonal(right, f"bert-tiny on SST-2 to {timed['target']}", "seconds")
    figure.suptitle("Predicted against measured; bars: 95% of the inputs' spread, and least to greatest measured", fontsize=11)
    return figure


def _mark(panel: Axes, row: Mapping[str, Any], colour: str, marker: str, label: str) -> None:
    spread, middle = row["measured"], row["predicted"]
    known = panel.get_legend_handles_labels()[1]
    panel.errorbar(
        spread["median"],
        middle,
        [[max(middle - row["interval"]["low"], 0)], [max(row["interval"]["high"] - middle, 0)]],
        [[spread["median"] - spread["least"]], [spread["greatest"] - spread["median"]]],
        fmt=marker,
        ms=5,
        elinewidth=0.7,
        color=colour,
        alpha=0.8,
        label=None if label in known else label,
    )


def _diagonal(panel: Axes, title: str, unit: str) -> None:
    _log(panel, ticks=(1.0, 2.0, 5.0))
    ends = [*panel.get_xlim(), *panel.get_ylim()]
    low, high = min(ends), max(ends)
    panel.plot([low, high], [low, high], lw=0.9, color="0.3", zorder=0)
    panel.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel=f"measured, {unit}", ylabel=f"predicted, {unit}")
    panel.set_title(title, fontsize=10)
    panel.grid(alpha=0.25)
    panel.legend(fontsize=8, loc="upper left")


def _log(panel: Axes, ticks: Sequence[float] = (1.0,)) -> None:
    panel.set(xscale="log", yscale="log")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(LogLocator(subs=ticks))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_formatter(NullFormatter())
    panel.xaxis.set_minor_locator(NullLocator())


def _say(panel: Axes, text: str) -> None:
    panel.text(0.5, 0.5, text, ha="center", va="center", transform=panel.transAxes, color="0.35")
