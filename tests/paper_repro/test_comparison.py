import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_repro.comparison import compare, draw, table, verdict


def result(method, seed, predictions, labels, times=(1.0, 2.0), scores=None, task="toy"):
    score = float(np.mean(np.asarray(predictions) == np.asarray(labels)))
    scores = scores or [score / 2, score]
    curve = [
        {"step": i + 1, "train_seconds": t, "gradient_evaluations": 10 * (i + 1), "eval_dev_accuracy": s}
        for i, (t, s) in enumerate(zip(times, scores, strict=True))
    ]
    return {
        "settings": {"method": method, "seed": seed, "batch_size": 32},
        "task": {"name": task, "split": "dev", "metric": "accuracy"},
        "score": score,
        "curve": curve,
        "predictions": list(predictions),
        "labels": list(labels),
        "cost": {"steps": 2, "gradient_evaluations": 20, "train_seconds": times[-1], "train_examples": 10},
    }


LABELS = [0, 1] * 50


def flipped(count, seed=0):
    predictions = np.array(LABELS)
    wrong = np.random.default_rng(seed).choice(len(LABELS), count, replace=False)
    predictions[wrong] = 1 - predictions[wrong]
    return predictions.tolist()


def test_the_same_predictions_are_within_noise_and_far_better_ones_are_better():
    rows = compare(
        [
            *(result("base", s, flipped(40, s), LABELS) for s in (0, 1)),
            *(result("same", s, flipped(40, s), LABELS) for s in (0, 1)),
            *(result("better", s, flipped(5, s), LABELS) for s in (0, 1)),
            *(result("worse", s, flipped(80, s), LABELS) for s in (0, 1)),
        ],
        "base",
    )
    assert [row.verdict for row in rows] == ["baseline", "within noise", "better", "worse"]
    assert rows[1].difference_interval == (0.0, 0.0)  # paired: nothing differs
    assert rows[2].difference == pytest.approx(0.35)
    for row in rows:
        assert row.interval[0] < row.score < row.interval[1]


@given(st.integers(0, 2**32), st.floats(0.55, 0.95))
def test_interval_of_an_accuracy_is_about_the_binomial_one(seed, accuracy):
    count = round(len(LABELS) * (1 - accuracy))
    (row,) = compare([result("base", 0, flipped(count, seed), LABELS)], "base")
    half = 1.96 * (row.score * (1 - row.score) / len(LABELS)) ** 0.5
    assert row.interval[1] - row.score == pytest.approx(half, rel=0.35)
    assert row.score - row.interval[0] == pytest.approx(half, rel=0.35)


def test_seeds_that_differ_widen_the_interval():
    steady = [result("base", s, flipped(20, 1), LABELS) for s in range(4)]
    spread = [result("base", s, flipped(20 + d, 1), LABELS) for s, d in enumerate((-15, 15, -15, 15))]
    widths = [np.ptp(compare(results, "base")[0].interval) for results in (steady, spread)]
    assert widths[1] > 1.3 * widths[0]


def test_time_to_the_baselines_score():
    base = result("base", 0, flipped(20), LABELS, times=(1.0, 8.0), scores=[0.5, 0.8])
    fast = result("fast", 0, flipped(20), LABELS, times=(2.0, 3.0), scores=[0.8, 0.8])
    never = result("never", 0, flipped(30), LABELS, scores=[0.5, 0.7])
    rows = compare([base, fast, never], "base")
    assert [row.seconds_to_target for row in rows] == [8.0, 2.0, None]
    text = table(rows, "accuracy")
    assert "2 s (4.00x)" in text
    assert "not reached (0 of 1 seeds)" in text
    assert len({len(line) for line in text.splitlines()}) == 1


def test_what_does_not_compare_is_refused():
    one = result("base", 0, flipped(20), LABELS)
    with pytest.raises(ValueError, match="no result of the baseline 'adamw'; there are: base"):
        compare([one], "adamw")
    with pytest.raises(ValueError, match=r"other has seeds \[1\], base has \[0\]"):
        compare([one, result("other", 1, flipped(20), LABELS)], "base")
    with pytest.raises(ValueError, match="different tasks"):
        compare([one, result("other", 0, flipped(20), LABELS, task="another")], "base")


def test_picture_is_drawn(tmp_path):
    results = [result("base", 0, flipped(20), LABELS), result("other", 0, flipped(10), LABELS)]
    draw(results, compare(results, "base"), tmp_path / "new" / "picture.png", "title")
    assert (tmp_path / "new" / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_verdict_says_who_reached_the_baseline_in_which_share_of_steps_and_seconds():
    always = [result("base", s, flipped(20), LABELS, (4.0, 8.0)) for s in (0, 1)]
    early = [result("early", s, flipped(10), LABELS, (2.0, 6.0), scores=[0.8, 0.9]) for s in (0, 1)]
    once = [
        result("once", 0, flipped(20), LABELS, (3.0, 5.0), scores=[0.5, 0.8]),
        result("once", 1, flipped(20), LABELS, (3.0, 5.0), scores=[0.5, 0.79]),
    ]
    rows = compare([*once, *always, *early], "base")
    assert {row.method: row.steps_to_target for row in rows} == {"base": 2, "early": 1, "once": None}
    what = "at batch 32 reached the score of base at batch 32 in"
    assert verdict(rows).splitlines() == [
        f"- early {what} 2 of 2 seeds, in 0.50 of its steps and 0.25 of its seconds.",
        f"- once {what} 1 of 2 seeds.",
    ]
