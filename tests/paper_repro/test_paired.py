import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from paper_repro.paired import Estimate, average, bootstrap_interval, estimate, holm, score
from scala.metrics import classification_metrics, regression_metrics


@given(st.integers(0, 2**32), st.integers(2, 4), st.integers(5, 40))
def test_scores_from_sums_are_those_of_the_libraries(seed, classes, examples):
    rng = np.random.default_rng(seed)
    predictions, labels = rng.integers(classes, size=(2, examples))
    known = classification_metrics(predictions, labels)
    assert score("accuracy", predictions, labels) == pytest.approx(known["accuracy"])
    assert score("matthews_correlation", predictions, labels) == pytest.approx(known["matthews_correlation"], abs=1e-12)
    x, y = rng.normal(3, 2, size=(2, examples))
    assert score("pearson", x, y) == pytest.approx(regression_metrics(x, y)["pearson"], abs=1e-9)


def test_one_class_predicted_and_equal_predictions_score_zero():
    assert score("matthews_correlation", np.zeros(6), np.array([0, 1, 0, 1, 1, 1])) == 0
    assert score("pearson", np.full(6, 2.5), np.arange(6.0)) == 0


def test_one_seed_is_the_paired_t_test_over_examples():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=200)
    ours, theirs = (np.where(rng.random(200) < p, labels, 1 - labels) for p in (0.8, 0.7))
    found = estimate("accuracy", ours[None], labels, theirs[None])
    known = stats.ttest_rel((ours == labels).astype(float), (theirs == labels).astype(float))
    assert found.p == pytest.approx(known.pvalue)
    assert found.interval == pytest.approx(tuple(known.confidence_interval()))


def test_where_seeds_make_all_the_spread_it_is_the_t_test_over_seeds():
    labels = np.zeros(1000)
    rates = np.array([0.60, 0.66, 0.71, 0.63])
    # All examples alike within a seed, up to which of them are wrong: what differs is the seed.
    predictions = np.stack([(np.random.default_rng(i).permutation(1000) >= 1000 * r) for i, r in enumerate(rates)]).astype(
        float
    )
    found = estimate("accuracy", predictions, labels)
    known = stats.ttest_1samp(rates, 0)
    assert found.mean == pytest.approx(rates.mean())
    assert found.freedom == pytest.approx(3, rel=0.1)
    assert found.interval == pytest.approx(tuple(known.confidence_interval()), rel=0.02)


@pytest.mark.parametrize("metric", ["accuracy", "matthews_correlation", "pearson"])
def test_the_mean_is_that_of_the_scores(metric):
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=90).astype(float)
    predictions = np.where(rng.random((3, 90)) < 0.8, labels, 1 - labels)
    assert estimate(metric, predictions, labels).mean == pytest.approx(np.mean([score(metric, p, labels) for p in predictions]))
    low, high = bootstrap_interval(metric, predictions, labels)
    ours = estimate(metric, predictions, labels)
    assert ours.interval == pytest.approx((low, high), abs=0.35 * (high - low))


@pytest.mark.parametrize("spread", [0.0, 0.03, 0.3], ids=["examples alone", "both", "seeds alone"])
@pytest.mark.parametrize("seeds", [3, 5])
def test_two_methods_that_are_alike_are_told_apart_one_time_in_twenty(spread, seeds):
    """Each seed of each method has its own skill, each example its own difficulty: what the test takes as random."""
    rng = np.random.default_rng(seeds)
    labels = np.zeros(150)
    rejected, trials = 0, 400
    for _ in range(trials):
        easy = rng.normal(0.8, 0.6, size=150)
        ours, theirs = (
            (easy + rng.normal(0, 3 * spread, size=(seeds, 1)) + rng.normal(0, 0.5, size=(seeds, 150)) < 0).astype(float)
            for _ in range(2)
        )
        rejected += estimate("accuracy", ours, labels, theirs).p < 0.05
    assert rejected / trials < 0.085


def test_small_p_values_are_as_rare_as_they_say_and_holms_correction_holds():
    """Nine methods against a tenth, all alike, three seeds: Holm asks the least p-value to be below 0.05 / 9."""
    rng = np.random.default_rng(0)
    labels, trials, found = np.zeros(150), 250, 0
    for _ in range(trials):
        easy = rng.normal(0.8, 0.6, size=150)
        runs = [
            (easy + rng.normal(0, 0.15, size=(3, 1)) + rng.normal(0, 0.5, size=(3, 150)) < 0).astype(float) for _ in range(10)
        ]
        found += min(holm([estimate("accuracy", run, labels, runs[0]).p for run in runs[1:]])) < 0.05
    assert found / trials < 0.085


def test_a_real_difference_is_found_although_three_seeds_alone_could_not_show_it():
    rng = np.random.default_rng(0)
    labels = np.zeros(800)
    easy = rng.normal(0.8, 0.6, size=800)
    ours, theirs = ((easy + shift + rng.normal(0, 0.5, size=(3, 800)) < 0).astype(float) for shift in (0.4, 0.0))
    assert estimate("accuracy", ours, labels, theirs).p < 0.05 < 2 / 2**3  # the least p of a permutation of three seeds


def test_equal_predictions_differ_by_nothing():
    predictions = np.tile([0.0, 1.0], (3, 20))
    found = estimate("accuracy", predictions, np.zeros(40), predictions)
    assert (found.mean, found.p, found.interval) == (0, 1, (0, 0))


def test_average_over_tasks():
    parts = [Estimate(0.1, 0.02, 10), Estimate(0.3, 0.02, 10)]
    found = average(parts)
    assert (found.mean, found.error, found.freedom) == pytest.approx((0.2, 0.02 / 2**0.5, 20))
    assert average(parts[:1]) == parts[0]


def test_holm():
    # Statsmodels' multipletests(p, method="holm") gives these.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_unknown_metric():
    with pytest.raises(ValueError, match="no intervals for the metric 'bleu'; there are some for accuracy"):
        score("bleu", np.zeros(3), np.zeros(3))
