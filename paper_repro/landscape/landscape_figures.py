"""Pictures of a landscape record: planes side by side, spectra, the way there, what separates the methods, layers, barriers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from paper_repro.landscape.spectrum import Density

Record = Mapping[str, Any]

_COLOURS = ("#0072B2", "#E69F00", "#CC3311", "#009E73", "#7F3C8D", "#666666")
_LEVELS = 14
_NO_CURVATURE = 1e-6
"""Drawn in place of zero, which the bias of attention keys has: it changes no output."""
_LINEAR = 0.01
"""Eigenvalues below this are drawn on a linear scale."""


def figures(record: Record) -> dict[str, Figure]:
    """All of them by name."""
    return {
        "surfaces": surfaces(record),
        "spectra": spectra(record),
        "along": along(record),
        "separation": separated(record),
        "layers": layers(record),
        "barriers": barriers(record),
    }


def surfaces(record: Record) -> Figure:
    """The loss in a plane through each method's model, as surface and as contours, all on one scale."""
    at = np.array(record["surfaces"]["at"])
    shown = record["surfaces"]["of"]
    losses = [np.array(one["losses"]) for one in shown]
    low, high = min(grid.min() for grid in losses), float(np.quantile(np.stack(losses), 0.98))
    levels = np.linspace(low, high, _LEVELS)
    figure = Figure(figsize=(2.9 * len(shown), 5.6), layout="constrained")
    first, second = np.meshgrid(at, at, indexing="ij")
    flat = []
    for column, (one, grid) in enumerate(zip(shown, losses, strict=True)):
        top = figure.add_subplot(2, len(shown), column + 1, projection="3d")
        capped = np.minimum(grid, high)
        top.plot_surface(first, second, capped, cmap="viridis", vmin=low, vmax=high, rcount=40, ccount=40, lw=0)
        top.set(zlim=(low, high), xticks=[-1, 0, 1], yticks=[-1, 0, 1])
        top.tick_params(labelsize=7, pad=-2)
        top.view_init(28, -60)
        top.set_title(one["method"], fontsize=11)
        flat.append(figure.add_subplot(2, len(shown), len(shown) + column + 1))
        filled = flat[-1].contourf(at, at, capped, levels=levels, cmap="viridis", extend="max")
        flat[-1].contour(at, at, capped, levels=levels, colors="white", linewidths=0.4)
        flat[-1].plot(0, 0, "+", color="white", ms=9)
        flat[-1].set(aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1], xlabel="direction 1")
        if column:
            flat[-1].set_yticklabels([])
    flat[0].set_ylabel("direction 2")
    figure.colorbar(filled, ax=flat, label="training loss", shrink=0.85)
    figure.suptitle("Loss around the finished models; 1: a move as large as the weights (filter-normalised)", fontsize=11)
    return figure


def spectra(record: Record) -> Figure:
    """The density of the Hessian's eigenvalues, a panel a method: each seed thin, their mean thick; the largest marked."""
    methods = _methods(record)
    figure = Figure(figsize=(2.9 * len(methods), 3.2), layout="constrained")
    panels = figure.subplots(1, len(methods), sharey=True, sharex=True, squeeze=False)[0]
    for panel, (method, colour) in zip(panels, methods.items(), strict=True):
        for run in _runs(record, method):
            point = run["points"][-1]
            density = Density(np.array(point["density"]["nodes"]), np.array(point["density"]["weights"]))
            eigenvalues, mass = density.smooth(_LINEAR, width=0.15)
            panel.fill_between(eigenvalues, 1e-9, mass, color=colour, alpha=0.18, lw=0)
            panel.plot(eigenvalues, mass, color=colour, lw=0.9)
            panel.axvline(point["eigenvalues"][0], color=colour, lw=0.8, ls=":")
        panel.set_xscale("asinh", linear_width=_LINEAR)
        panel.set(yscale="log", ylim=(1e-9, 10), xlabel="eigenvalue", title=method)
        panel.set_xticks([-1, -0.1, 0, 0.1, 1, 10, 100])
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.tick_params(axis="x", labelsize=8)
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("share of the eigenvalues")
    figure.suptitle(
        "Spectrum of the Hessian at the finished models, a curve a seed; dotted: the largest eigenvalue", fontsize=11
    )
    return figure


def along(record: Record) -> Figure:
    """Six measures along training: the mean over seeds, from the least to the greatest shaded."""
    shown: dict[str, Callable[[Record], float | None]] = {
        "largest eigenvalue": lambda p: p["eigenvalues"][0],
        "rise under the follower's noise": lambda p: p["noise_rise"],
        "rise under a small move of the weights": lambda p: p["weight_rise"],
        "norm of the gradient": lambda p: p["gradient_norm"],
        "gradient noise scale (samples)": lambda p: p["noise_scale"]["scale"],
        "training loss": lambda p: p["loss"],
    }
    figure = Figure(figsize=(11, 6), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True)
    for panel, (label, value) in zip(panels.flat, shown.items(), strict=True):
        drawn = False
        for method, colour in _methods(record).items():
            runs = _runs(record, method)
            shares = [point["step"] / point["of"] for point in runs[0]["points"]]
            values = np.array([[_number(value(point)) for point in run["points"]] for run in runs])
            values[:, ~np.isfinite(values).all(axis=0)] = np.nan
            drawn = drawn or bool(np.isfinite(values).any())
            panel.fill_between(shares, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, lw=0)
            panel.plot(shares, np.exp(np.log(values).mean(axis=0)), "o-", ms=3, lw=1.4, color=colour, label=method)
        panel.set(yscale="log" if drawn else "linear", title=label)
        panel.title.set_fontsize(10)
        if drawn:
            _label_log(panel.yaxis)
        panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        panel.grid(alpha=0.25, which="both")
    for panel in panels[1]:
        panel.set_xlabel("of the steps")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(
        "Along training: geometric mean over seeds, least to greatest shaded; a gap: infinite for a seed", fontsize=11
    )
    return figure


def separated(record: Record) -> Figure:
    """Each measure of the finished models over LAMB's geometric mean, a dot a seed, with what the seeds' spread says."""
    rows = [row for row in record["separation"] if row["p"] is not None]
    methods = _methods(record)
    reference = "lamb" if "lamb" in methods else next(iter(methods))
    figure = Figure(figsize=(9, 0.62 * len(rows) + 1.4), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        middle = np.exp(np.mean(np.log(row["values"][reference])))
        for shift, (method, colour) in zip(np.linspace(-0.3, 0.3, len(methods)), methods.items(), strict=True):
            ratios = np.array(row["values"][method]) / middle
            axes.plot(ratios, np.full(len(ratios), place + shift), "o", ms=4, color=colour, label=None if place else method)
        corrected = f"p = {row['p_holm']:.2g}" if row["p_holm"] >= 0.001 else "p < 0.001"
        axes.text(1.01, place, corrected, va="center", fontsize=9, transform=axes.get_yaxis_transform(), color="0.25")
    axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axes.invert_yaxis()
    axes.axvline(1, color="0.4", lw=0.9, zorder=0)
    axes.set(xscale="log", xlabel=f"over {reference}'s geometric mean (log scale)")
    _label_log(axes.xaxis)
    axes.grid(alpha=0.25, axis="x", which="both")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(
        "Finished models, a dot a seed; p: no difference between the methods (analysis of variance, Holm)", fontsize=11
    )
    return figure


def layers(record: Record) -> Figure:
    """The curvature that a layer-wise normalised step meets, layer by layer in the order of the network."""
    names = list(record["runs"][0]["points"][-1]["layers"])
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    axes = figure.subplots()
    for method, colour in _methods(record).items():
        values = np.array([[run["points"][-1]["layers"][name] for name in names] for run in _runs(record, method)])
        means = np.exp(np.log(np.maximum(values, _NO_CURVATURE)).mean(axis=0))
        axes.plot(means, "o", ms=4.5, alpha=0.8, color=colour, label=method)
    axes.set_xticks(range(len(names)), [_short(name) for name in names], rotation=90, fontsize=7)
    axes.set(yscale="log", ylabel="largest eigenvalue x squared norm", xlim=(-0.7, len(names) - 0.3))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, ncols=3, fontsize=9)
    figure.suptitle(
        "What a layer-wise normalised step meets in each layer of the finished models (geometric mean over seeds)", fontsize=11
    )
    return figure


def barriers(record: Record) -> Figure:
    """The loss on the segments between finished models: every pair of methods at a seed, every pair of seeds of a method."""
    methods = list(_methods(record))
    figure = Figure(figsize=(2.2 * len(methods), 2.1 * len(methods)), layout="constrained")
    grid = figure.subplots(len(methods), len(methods), sharex=True, sharey=True, squeeze=False)
    for row, start in enumerate(methods):
        for column, end in enumerate(methods):
            panel = grid[row, column]
            if column > row:
                panel.axis("off")
                continue
            heights = []
            for one in record["barriers"]:
                if {one["start"], one["end"]} != {start, end} or (start == end) != (one["start"] == one["end"]):
                    continue
                losses = one["losses"] if one["start"] == start else one["losses"][::-1]
                panel.plot(np.linspace(0, 1, len(losses)), losses, lw=1, color=_COLOURS[row], alpha=0.8)
                heights.append(one["height"])
            panel.set_title(f"barrier {np.mean(heights):.2f}" if heights else "one seed", fontsize=8, pad=3)
            panel.grid(alpha=0.25)
            panel.set_xticks([0, 1], ["", ""])
            if column == 0:
                panel.set_ylabel(f"{start}\ntraining loss", fontsize=9)
            if row == len(methods) - 1:
                panel.set_xlabel(end, fontsize=9)
    figure.suptitle(
        "Training loss on the segment between two finished models: methods at one seed; diagonal: seeds of a method",
        fontsize=11,
    )
    return figure


def _label_log(axis: Axis) -> None:
    """Label 1, 2 and 5 of every decade, in plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _methods(record: Record) -> dict[str, str]:
    """Methods with their colours, in the order of the record."""
    return dict(zip(dict.fromkeys(run["method"] for run in record["runs"]), _COLOURS, strict=False))


def _runs(record: Record, method: str) -> Sequence[Record]:
    return [run for run in record["runs"] if run["method"] == method]


def _number(value: float | None) -> float:
    return np.inf if value is None else value


def _short(name: str) -> str:
    """A layer's name without what all have: "0.attention.query.weight"."""
    for part in ("bert.", "encoder.layer.", "self.", "embeddings.word_", "dense."):
        name = name.replace(part, "word_" if part.endswith("word_") else "")
    return name
