"""The answers on a dev set as a picture: a confusion matrix of classes, or answers over labels of a regression.

Colours go from dark to bright in one order that colour-blind readers see alike (cividis), and numbers stand in the cells.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import AutoLocator
from sklearn.metrics import ConfusionMatrixDisplay, PredictionErrorDisplay, confusion_matrix

MOST_NUMBERED = 30
"""With more classes the cells are too small for numbers."""
_MOST_NAMED = 160
_LONGEST_NAME = 24


def confusion_picture(predictions: np.ndarray, labels: np.ndarray, names: Sequence[str], title: str) -> bytes:
    """Draw how often each class was taken for each: colours are shares of a class, numbers are examples.

    Args:
        predictions: class ids, shape (N,).
        labels: class ids, shape (N,).
        names: of the classes, in the order of their ids; numbers stand for names that the font cannot write.
        title: above it.

    Returns:
        A PNG file.
    """
    classes = len(names)
    counts = confusion_matrix(labels, predictions, labels=range(classes))
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    size = min(30.0, 3.2 + (0.45 if classes <= MOST_NUMBERED else 0.16) * classes)
    shown = display_names(names)
    with rc_context({"font.size": 10 if classes <= MOST_NUMBERED else 7}):
        figure = Figure(figsize=(size + 1, size), layout="constrained")
        axes = figure.subplots()
        display = ConfusionMatrixDisplay(shares, display_labels=shown)
        upright = classes > 2 and max(map(len, shown)) > 3
        display.plot(ax=axes, cmap="cividis", include_values=False, xticks_rotation="vertical" if upright else "horizontal")
        if (step := -(-classes // _MOST_NAMED)) > 1:
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_ticks(range(0, classes, step), shown[::step])
        display.im_.set_clim(0, 1)
        display.im_.colorbar.set_label("share of the true class")
        if classes <= MOST_NUMBERED:
            for (row, column), count in np.ndenumerate(counts):
                colour = "black" if shares[row, column] > 0.5 else "white"
                axes.text(column, row, f"{count:,}" if count or classes <= 10 else "", ha="center", va="center", color=colour)
        axes.set(title=_escaped(title), xlabel="predicted", ylabel="true")
        return _png(figure)


def scatter_picture(predictions: np.ndarray, labels: np.ndarray, title: str) -> bytes:
    """Draw a regression's answers over the labels, and the line on which they would be equal.

    Args:
        predictions: shape (N,).
        labels: shape (N,).
        title: above it.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.subplots()
    dots = {"alpha": 0.4 if len(labels) > 100 else 0.8, "color": "#0072b2", "edgecolors": "none"}
    line = {"color": "black", "linewidth": 1}
    PredictionErrorDisplay(y_true=labels, y_pred=predictions).plot(
        ax=axes, kind="actual_vs_predicted", scatter_kwargs=dots, line_kwargs=line
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(AutoLocator())  # round numbers
    axes.set(title=_escaped(title), xlabel="predicted", ylabel="true")
    return _png(figure)


def display_names(names: Sequence[str]) -> list[str]:
    """Class names as the picture writes them: not too long, and numbers (from 0) where the font lacks their characters."""
    font = get_font(findfont(FontProperties()))
    if any(font.get_char_index(ord(character)) == 0 for name in names for character in name if not character.isspace()):
        return [str(number) for number in range(len(names))]
    flat = [" ".join(name.split()) for name in names]
    return [_escaped(name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…") for name in flat]


def _escaped(text: str) -> str:
    return text.replace("$", r"\$")  # between two of them matplotlib sets formulas


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what constrained layout could not do better
        FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()
