"""The pictures: right numbers in the right cells, legible, and apart for colour-blind readers."""

import io
import warnings
from itertools import pairwise

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from scala.adapt import picture
from scala.adapt.picture import confusion_picture, display_names, scatter_picture


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn."""
    found = []
    png = picture._png

    def keep(figure):
        found.append(figure)
        return png(figure)

    monkeypatch.setattr(picture, "_png", keep)
    return found


def axes(figure: Figure) -> Axes:
    return figure.axes[0]


def pixels(content: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(content), format="png")


def test_numbers_stand_in_their_cells(drawn):
    labels, predictions = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0])
    content = confusion_picture(predictions, labels, ["red", "green", "blue"], "dev")
    found = axes(drawn[0])
    cells = {tuple(int(v) for v in text.get_position()[::-1]): int(text.get_text()) for text in found.texts}
    assert cells == {(0, 0): 2, (0, 1): 1, (0, 2): 0, (1, 0): 0, (1, 1): 2, (1, 2): 0, (2, 0): 1, (2, 1): 0, (2, 2): 0}
    assert [label.get_text() for label in found.get_yticklabels()] == ["red", "green", "blue"]
    assert (found.get_xlabel(), found.get_ylabel()) == ("predicted", "true")
    assert pixels(content).shape[0] > 300


def test_colours_are_shares_and_their_order_is_seen_without_colour(drawn):
    """A class of a thousand does not hide one of ten, and brightness alone rises with the share."""
    labels = np.repeat([0, 1], [1000, 10])
    confusion_picture(labels, labels, ["many", "few"], "dev")
    image = axes(drawn[0]).images[0]
    assert np.array_equal(np.asarray(image.get_array()), np.eye(2))
    colours = image.cmap(np.linspace(0, 1, 32))[:, :3]
    brightness = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(brightness) > 0).all()


def test_numbers_are_seen_on_their_cells(drawn):
    labels = np.repeat([0, 1], [10, 10])
    predictions = np.concatenate([np.repeat([0, 1], [9, 1]), np.repeat([0, 1], [5, 5])])
    confusion_picture(predictions, labels, ["a", "b"], "dev")
    found = axes(drawn[0])
    for text in found.texts:
        column, row = (int(v) for v in text.get_position())
        share = np.asarray(found.images[0].get_array())[row, column]
        cell = np.array(found.images[0].cmap(share)[:3]) @ [0.2126, 0.7152, 0.0722]
        ink = {"white": 1.0, "black": 0.0}[text.get_color()]
        assert abs(ink - cell) > 0.4


@pytest.mark.parametrize("classes", [77, 400])
def test_many_classes_fit(drawn, classes):
    names = [f"class number {number}" for number in range(classes)]
    content = confusion_picture(np.arange(classes), np.arange(classes), names, "dev")
    assert not axes(drawn[0]).texts
    assert max(pixels(content).shape) < 4000
    boxes = [label.get_window_extent() for label in axes(drawn[0]).get_yticklabels()]
    assert all(below.y1 <= above.y0 + 1 for above, below in pairwise(boxes))


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["no", "yes"], ["no", "yes"]),
        (["$5 and $9", "x"], [r"\$5 and \$9", "x"]),
        (["好", "坏"], ["0", "1"]),
        (["a name of far too many words for an axis", "x"], ["a name of far too many …", "x"]),
        (["a" * 60, "b\nc"], ["a" * 23 + "…", "b c"]),
    ],
)
def test_class_names_are_written_as_the_font_can(drawn, names, shown):
    assert display_names(names) == shown
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph
        confusion_picture(np.array([0, 1]), np.array([0, 1]), names, "accuracy of $x$")


def test_a_regression_is_a_scatter_around_the_line_of_equal_answers(drawn):
    labels = np.array([0.0, 1.0, 2.5])
    predictions = np.array([0.5, 0.5, 2.0])
    scatter_picture(predictions, labels, "dev")
    found = axes(drawn[0])
    (dots,) = [artist for artist in found.collections if isinstance(artist, PathCollection)]
    assert np.array_equal(np.asarray(dots.get_offsets()), np.stack([predictions, labels], axis=1))
    assert (found.get_xlabel(), found.get_ylabel()) == ("predicted", "true")
    (line,) = found.lines
    assert np.array_equal(line.get_xdata(), line.get_ydata())
