"""Metrics against their formulas, their symmetries, and the input they refuse."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from transformers import EvalPrediction

from scala.metrics import classification_metrics, compute_metrics_for, regression_metrics

pytestmark = pytest.mark.filterwarnings("error")


def class_pairs(classes: int):
    ids = st.integers(0, classes - 1)
    return st.lists(st.tuples(ids, ids), min_size=1, max_size=40).map(lambda pairs: np.array(pairs).T)


numbers = st.integers(-1000, 1000).map(lambda n: n / 8)
number_pairs = (
    st.lists(st.tuples(numbers, numbers), min_size=2, max_size=40)
    .map(lambda pairs: np.array(pairs).T)
    .filter(lambda pair: np.ptp(pair[1]) > 0)
)


class TestClassification:
    @given(class_pairs(2))
    def test_two_classes_follow_the_formulas(self, pair):
        predictions, labels = pair
        tp = int(np.sum((predictions == 1) & (labels == 1)))
        tn = int(np.sum((predictions == 0) & (labels == 0)))
        fp, fn = int(np.sum(predictions > labels)), int(np.sum(predictions < labels))
        root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        found = classification_metrics(predictions, labels)
        assert found["accuracy"] == pytest.approx((tp + tn) / len(labels))
        assert found["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0)
        assert found["matthews_correlation"] == pytest.approx((tp * tn - fp * fn) / root if root else 0.0)

    @given(class_pairs(4), st.permutations(range(4)))
    def test_many_classes_do_not_depend_on_their_names(self, pair, renamed):
        predictions, labels = pair
        names = np.array(renamed)
        found = classification_metrics(predictions, labels, num_classes=4)
        assert found == pytest.approx(classification_metrics(names[predictions], names[labels], num_classes=4))

    def test_macro_f1_is_the_mean_over_the_classes_that_occur(self):
        found = classification_metrics(np.array([0, 0, 1]), np.array([0, 1, 1]), num_classes=3)
        assert found["f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)
        found = classification_metrics(np.array([0, 0, 2]), np.array([0, 1, 2]))
        assert found["f1"] == pytest.approx((2 / 3 + 0 + 1) / 3)

    def test_one_class_only_has_no_correlation(self):
        found = classification_metrics(np.ones(4, int), np.array([1, 1, 0, 1]))
        assert found == {"accuracy": 0.75, "f1": pytest.approx(6 / 7), "matthews_correlation": 0.0}

    @pytest.mark.parametrize(
        ("predictions", "labels", "why"),
        [
            ([0, 1, 0], [0, 1], r"shapes \(3,\) and \(2,\)"),
            ([[0], [1]], [[0], [1]], r"must be \(N,\)"),
            ([], [], "no predictions"),
            ([0, 3], [0, 1], r"predictions\[1\] is 3; class ids are 0 to 2"),
            ([0, 1], [-100, 1], r"labels\[0\] is -100"),
            ([0, 1], [0, 0.5], r"labels\[1\] is 0\.5"),
        ],
    )
    def test_refuses(self, predictions, labels, why):
        with pytest.raises(ValueError, match=why):
            classification_metrics(np.array(predictions), np.array(labels), num_classes=3)


class TestRegression:
    @given(number_pairs)
    def test_follows_the_formulas(self, pair):
        predictions, labels = pair
        found = regression_metrics(predictions, labels)
        assert found["mse"] == pytest.approx(np.mean((predictions - labels) ** 2))
        if np.ptp(predictions) > 0:
            ranks = [np.array([(x < v).sum() + ((x == v).sum() - 1) / 2 for v in x]) for x in pair]
            assert found["pearson"] == pytest.approx(np.corrcoef(*pair)[0, 1], abs=1e-9)
            assert found["spearmanr"] == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-9)

    def test_equal_predictions_count_as_no_correlation(self):
        found = regression_metrics(np.full(3, 0.1, np.float32), np.array([0.0, 1.0, 2.0]))
        assert found["pearson"] == found["spearmanr"] == 0.0
        assert found["mse"] == pytest.approx(np.mean((np.arange(3) - 0.1) ** 2))

    def test_a_curve_is_in_order_but_not_on_a_line(self):
        found = regression_metrics(np.array([1.0, 8.0, 27.0, 64.0]), np.array([1.0, 2.0, 3.0, 4.0]))
        assert found["spearmanr"] == pytest.approx(1.0)
        assert found["pearson"] < 0.97

    @pytest.mark.parametrize(
        ("predictions", "labels", "why"),
        [
            ([1.0, 2.0], [3.0, 3.0], "all 2 labels are 3"),
            ([1.0], [3.0], "all 1 labels are 3"),
            ([1.0, 2.0], [3.0], "shapes"),
            ([], [], "no predictions"),
            ([1.0, math.nan], [3.0, 4.0], r"1 of 2 predictions are not finite; the first is predictions\[1\]"),
            ([1.0, 2.0], [math.inf, 4.0], r"labels\[0\]"),
        ],
    )
    def test_refuses(self, predictions, labels, why):
        with pytest.raises(ValueError, match=why):
            regression_metrics(np.array(predictions), np.array(labels))


class TestForTheTrainer:
    logits = np.array([[2.0, 1.0], [0.0, 1.0], [0.0, 3.0]], dtype=np.float32)
    labels = np.array([0, 1, 0])

    def test_takes_the_largest_logit(self):
        found = compute_metrics_for("classification")(EvalPrediction(self.logits, self.labels))
        assert found == classification_metrics(np.array([0, 1, 1]), self.labels)
        assert list(found) == ["accuracy", "f1", "matthews_correlation"]

    def test_returns_the_names_asked_for_in_their_order(self):
        found = compute_metrics_for(["f1", "accuracy"])(EvalPrediction(self.logits, self.labels))
        assert list(found) == ["f1", "accuracy"]
        assert list(compute_metrics_for("accuracy")(EvalPrediction(self.logits, self.labels))) == ["accuracy"]

    def test_takes_the_first_of_a_tuple_of_outputs(self):
        prediction = EvalPrediction((self.logits, np.zeros((3, 5))), self.labels)
        assert compute_metrics_for("accuracy")(prediction) == {"accuracy": pytest.approx(2 / 3)}

    def test_three_logits_mean_macro_f1_whatever_occurs(self):
        logits = np.array([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
        found = compute_metrics_for("f1")(EvalPrediction(logits, np.array([0, 1, 1])))
        assert found["f1"] == pytest.approx(2 / 3)
        logits = np.array([[2.0, 1.0, 0.0]] * 3)
        found = compute_metrics_for("f1")(EvalPrediction(logits, np.array([0, 0, 1])))
        assert found["f1"] == pytest.approx((0.8 + 0) / 2)

    @given(arrays.arrays(np.float32, 6, elements=st.integers(-8, 8), unique=True))
    def test_scores_come_with_or_without_a_last_axis(self, outputs):
        labels = np.arange(6.0)
        compute = compute_metrics_for("regression")
        expected = regression_metrics(outputs, labels)
        assert compute(EvalPrediction(outputs, labels)) == expected
        assert compute(EvalPrediction(outputs[:, None], labels)) == expected

    @pytest.mark.parametrize("metrics", ["bleu", [], ["accuracy", "pearson"], "classification, f1"])
    def test_refuses_unknown_or_mixed_metrics(self, metrics):
        with pytest.raises(ValueError, match="of one kind"):
            compute_metrics_for(metrics)

    @pytest.mark.parametrize(
        ("kind", "predictions", "why"),
        [
            ("classification", np.zeros((3, 1)), r"shape \(3, 1\); a classification needs"),
            ("classification", np.zeros(3), "a classification needs"),
            ("classification", np.array([[0.0, 1.0], [math.nan, 1.0], [0.0, 1.0]]), r"logits\[1\]"),
            ("classification", np.zeros((2, 2)), r"\(2,\) and \(3,\)"),
            ("classification", np.zeros((0, 2)), "shapes"),
            ("regression", np.zeros((3, 2)), r"\(3, 2\)"),
        ],
    )
    def test_refuses_outputs_of_another_kind(self, kind, predictions, why):
        with pytest.raises(ValueError, match=why):
            compute_metrics_for(kind)(EvalPrediction(predictions, self.labels))
