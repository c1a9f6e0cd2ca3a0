import dataclasses
import json
import zlib
from collections import defaultdict

import numpy as np
import pytest

from paper_repro.analysis import experiment_figures, experiment_page, tables
from paper_repro.analysis.cells import gather, hardware, of_cell, planned, reached
from paper_repro.analysis.scores import score as score_of
from paper_repro.analysis.statistics import holm
from paper_repro.analysis.target import reach
from paper_repro.rivals import RIVALS
from paper_repro.runs.experiment import load_experiment
from paper_repro.runs.store import diverged_path, result_path
from paper_repro.runs.tuning import EXPERIMENTS

EXAMPLES = 200
TEXT = """
# A made-up experiment.
seeds = [0, 1, 2]
model = "m"
batch_size = 64
[methods.adamw-32]
batch_size = 32
leader = "optim"
[methods.lamb]
noise = "none"
[methods.scala]
noise_radius = [0.01, 0.1]
[tasks.sst2]
[tasks.rte]
"""


def made_up(run, quality, machine="cpu"):
    """A result whose dev examples are right with the probability `quality`."""
    rng = np.random.default_rng(zlib.crc32(run.identity.encode()))
    labels = np.arange(EXAMPLES) % 2
    predictions = np.where(rng.random(EXAMPLES) < quality, labels, 1 - labels)
    score = score_of("accuracy", predictions, labels)
    curve = [
        {
            "step": step * 32 // run.batch_size,
            "gradient_evaluations": 10 * step,
            "train_seconds": step / 4,
            "eval_validation_accuracy": score * step / 96,
        }
        for step in (32, 64, 96)
    ]
    return {
        "settings": run.settings(),
        "model": {"name": run.model},
        "task": {"name": run.task, "metric": "accuracy", "split": "validation", "source": {}},
        "score": score,
        "curve": curve,
        "training_log": [],
        "predictions": predictions.tolist(),
        "labels": labels.tolist(),
        "cost": {"steps": 1, "gradient_evaluations": 960, "train_seconds": 24.0, "train_examples": 100},
        "provenance": {"commit": "abc", "hardware": machine, "threads": 1},
    }


def keep(run, folder, quality, **more):
    result_path(run, folder).parent.mkdir(parents=True, exist_ok=True)
    result_path(run, folder).write_text(json.dumps(made_up(run, quality, **more)))


QUALITY = {"adamw-32": 0.9, "lamb": 0.7, "scala": 0.72}


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "ablation-any.toml"
    path.write_text(TEXT.lstrip())
    return path


@pytest.fixture
def folder(experiment, tmp_path):
    """Everything but scala at radius 0.1 on rte, of which one seed diverged; lamb on rte has two seeds."""
    for task in ("sst2", "rte"):
        for run in load_experiment(experiment, task):
            if task == "rte" and (dict(run.options).get("noise_radius") == 0.1 or (run.method, run.seed) == ("lamb", 2)):
                continue
            keep(run, tmp_path / "results", QUALITY[run.method])
    lost = next(r for r in load_experiment(experiment, "rte") if dict(r.options).get("noise_radius") == 0.1)
    diverged_path(lost, tmp_path / "results").write_text("{}")
    return tmp_path / "results"


def rows(table):
    return {row[0]: dict(zip(table[0][1:], row[1:], strict=True)) for row in table[1]}


def test_missing_cells_seeds_and_divergence_are_said(experiment, folder):
    found = rows(tables.scores_table(gather(planned(experiment), folder)))
    assert found["lamb"]["rte (accuracy)"].endswith("n=2")
    assert found["adamw-32"]["sst2 (accuracy)"].endswith("n=3")
    assert found["scala noise_radius 0.1"]["rte (accuracy)"] == "1 diverged"
    assert found["scala noise_radius 0.1"]["average"] == "not all run"
    empty = rows(tables.scores_table(gather(planned(experiment), folder / "nothing")))
    assert {row["sst2 (no result)"] for row in empty.values()} == {"not run"}


def test_differences_are_paired_over_the_common_seeds_and_corrected(experiment, folder):
    cells = gather(planned(experiment), folder)
    found = rows(tables.differences_table(cells, "adamw-32"))
    assert found["lamb"]["rte"].startswith("-")
    raw = tables.differences(cells, "adamw-32")["lamb"]["sst2"]
    assert raw.mean == pytest.approx(
        np.mean([cells["sst2"]["lamb"].results[s]["score"] - cells["sst2"]["adamw-32"].results[s]["score"] for s in range(3)])
    )
    shown = [float(row["sst2"].rpartition("p=")[2]) for row in found.values()]
    plain = [row["sst2"].p for row in tables.differences(cells, "adamw-32").values()]
    assert shown == pytest.approx(holm(plain), rel=0.06)  # two digits are shown
    assert min(shown) > 2.8 * min(plain)  # three methods against the baseline


def shuffled(result):
    """Scored on the same examples in another order."""
    order = np.random.default_rng(0).permutation(EXAMPLES)
    result |= {key: np.array(result[key])[order].tolist() for key in ("predictions", "labels")}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (shuffled, "the labels differ"),
        (lambda result: result["task"]["source"]["glue_files_sha256"].update({"SST-2/dev.tsv": "b"}), "SST-2/dev.tsv differ"),
        (lambda result: result["task"].update(split="held_out"), "the task's splits differ"),
    ],
    ids=["order", "hash", "split"],
)
def test_only_the_same_examples_in_the_same_order_compare(experiment, folder, other, said):
    """A true difference of -0.004 was +0.372 once, as the examples of one side were in another order."""
    column = gather(planned(experiment), folder)["sst2"]
    for cell in column.values():
        for result in cell.results.values():
            result["task"]["source"] = {"glue_files_sha256": {"SST-2/dev.tsv": "a"}}
    assert of_cell(column["lamb"], column["adamw-32"]).mean < 0
    other(column["lamb"].results[1])
    with pytest.raises(ValueError, match=f"lamb, seed 0 and lamb, seed 1 were not scored on the same examples: .*{said}"):
        of_cell(column["lamb"], column["adamw-32"])
    del column["lamb"].results[0], column["lamb"].results[2]
    for compare in (of_cell, lambda one, base: reached(column, one, base.method, lower_end=False)):
        with pytest.raises(
            ValueError, match=f"lamb, seed 1 and adamw-32, seed 1 were not scored on the same examples: .*{said}"
        ):
            compare(column["lamb"], column["adamw-32"])


def test_a_result_of_other_settings_never_fills_a_cell(experiment, folder, tmp_path):
    experiment.write_text(TEXT.replace('model = "m"', 'model = "m"\nepochs = 7'))
    cells = gather(planned(experiment), folder)
    assert not any(cell.results for column in cells.values() for cell in column.values())


def test_page_latex_and_figure(experiment, folder, tmp_path):
    page = experiment_page.write(experiment, planned(experiment), folder, tmp_path / "out", "Made up.").path.read_text()
    assert "**Made up.**" in page
    assert "A made-up experiment." in page
    assert "--tasks sst2 rte --seeds 0 1 2" in page
    assert "commit: abc; hardware: cpu" in page
    for figure in ("ablation-any.png", "ablation-any-differences.png"):
        assert (tmp_path / "out" / figure).read_bytes().startswith(b"\x89PNG")
        assert f"({figure})" in page
    latex = (tmp_path / "out/ablation-any-scores.tex").read_text()
    assert latex.count(r"\\") == 5  # the head and four rows
    assert r"noise\_radius" in latex


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, in place of their files."""
    kept = []
    monkeypatch.setattr(experiment_figures, "_save", lambda figure, path, description="": kept.append(figure))
    yield kept
    for figure in kept:
        experiment_figures.plt.close(figure)


def cells_of_scala(setting, tmp_path, seeds=(0,)):
    """Cells of an experiment with this setting alone, all of it run."""
    path = tmp_path / "ablation-any.toml"
    path.write_text(f"seeds = {list(seeds)}\nmodel = 'm'\nbatch_size = 64\n[methods.scala]\n{setting}\n[tasks.sst2]\n")
    by_task = planned(path)
    for run in by_task["sst2"]:
        keep(run, tmp_path, 0.7)
    return gather(by_task, tmp_path)


@pytest.mark.parametrize(
    ("varied", "names", "joined"),
    [
        ("noise_radius = [0.1, 0.01]", ["0.01", "0.1"], True),
        ("noise_absolute = [false, true]", ["off", "on"], False),
        ("noise_norm = ['linf', 'l2']", ["linf", "l2"], False),
    ],
)
def test_a_line_joins_numbers_and_no_kinds(varied, names, joined, tmp_path, drawn):
    assert experiment_figures.draw_sweep(cells_of_scala(varied, tmp_path), tmp_path / "any.png", "made up")
    (axis,) = drawn[0].axes
    assert [label.get_text() for label in axis.get_xticklabels()] == names
    ((line, *_),) = axis.containers
    assert (line.get_linestyle(), line.get_marker()) == ("-" if joined else "None", "o")


@pytest.mark.parametrize(
    ("varied", "scale", "ticks"),
    [
        ("noise_radius = [0.1, 0.01, 0.03]", "log", [0.01, 0.03, 0.1]),
        ("learning_rate = [1e-4, 1.25e-4, 1e-3]", "log", [1e-4, 2e-4, 5e-4, 1e-3]),  # two values too near for two names
        ("noise_delay = [0.0, 0.25, 0.9]", "linear", [0.0, 0.25, 0.9]),
        ("noise_steps = [1, 2, 9]", "linear", [1, 2, 9]),
    ],
)
def test_numbers_stand_where_they_are_on_the_axis(varied, scale, ticks, tmp_path, drawn):
    assert experiment_figures.draw_sweep(cells_of_scala(varied, tmp_path), tmp_path / "any.png", "made up")
    (axis,) = drawn[0].axes
    ((line, *_),) = axis.containers
    assert axis.get_xscale() == scale
    assert line.get_xdata() == pytest.approx(sorted(json.loads(varied.partition("= ")[2])))
    low, high = axis.get_xlim()
    assert [tick for tick in axis.get_xticks() if low <= tick <= high] == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("kept", "shown", "said"),
    [({0, 1, 2}, {0, 1, 2}, "3 seeds"), ({1, 2}, {1, 2}, "2 seeds"), ({2}, {0, 1, 2}, "1 to 3 seeds")],
)
def test_points_of_a_panel_are_of_the_same_seeds(kept, shown, said, tmp_path, drawn):
    column = cells_of_scala("noise_radius = [0.1, 0.01]", tmp_path, seeds=[0, 1, 2])["sst2"]
    more, fewer = column
    scores = {seed: result["score"] for seed, result in column[more].results.items()}
    assert len(set(scores.values())) == 3
    some = {seed: result for seed, result in column[fewer].results.items() if seed in kept}
    cells = {"sst2": column | {fewer: dataclasses.replace(column[fewer], results=some)}}
    assert experiment_figures.draw_sweep(cells, tmp_path / "any.png", "made up")
    (axis,) = drawn[0].axes
    assert axis.get_title() == f"sst2 (accuracy), {said}"
    ((line, *_),) = axis.containers
    assert line.get_ydata()[1] == pytest.approx(100 * np.mean([scores[seed] for seed in shown]))


@pytest.mark.parametrize(("radii", "has_a_panel"), [(1, False), (2, False), (3, True), (4, True)])
def test_a_task_with_fewer_than_three_of_more_points_has_no_panel(radii, has_a_panel, tmp_path, drawn):
    column = cells_of_scala("noise_radius = [0.01, 0.02, 0.03, 0.04]", tmp_path)["sst2"]
    some = {name: cell if n < radii else dataclasses.replace(cell, results={}) for n, (name, cell) in enumerate(column.items())}
    assert experiment_figures.draw_sweep({"sst2": some, "rte": column}, tmp_path / "any.png", "made up")
    assert len(drawn[0].axes) == 1 + has_a_panel
    assert experiment_figures.draw_sweep({"sst2": some}, tmp_path / "any.png", "made up") == has_a_panel
    assert (
        experiment_figures.draw_differences({"sst2": some}, [next(iter(column))], tmp_path / "any.png", "made up")
        == has_a_panel
    )
    two = dict(list(column.items())[:2])
    assert experiment_figures.draw_sweep({"sst2": two}, tmp_path / "any.png", "made up"), "all that is planned"


def test_differences_are_drawn_where_the_table_has_them(experiment, folder, drawn, tmp_path):
    cells = gather(planned(experiment), folder)
    assert experiment_figures.draw_differences(cells, ["adamw-32", "lamb"], tmp_path / "any.png", "made up")
    drawn[0].canvas.draw()
    axes = iter(drawn[0].axes)
    names = ["adamw-32", "lamb", "scala noise_radius 0.01", "scala noise_radius 0.1"]
    for reference in ("adamw-32", "lamb"):
        found = tables.differences(cells, reference)
        for panel in ("sst2", "rte", "average"):
            axis = next(axes)
            assert [label.get_text() for label in axis.get_yticklabels()] in (names, [])
            known = [(name, e) for name, row in found.items() if (e := row[panel]) is not None]
            assert len(known) == (3 if panel == "sst2" else 2)
            for (name, e), (line, _, (bar,)) in zip(known, axis.containers, strict=True):
                assert (line.get_xdata()[0], names[int(line.get_ydata()[0])]) == (pytest.approx(100 * e.mean), name)
                assert bar.get_segments()[0][:, 0] == pytest.approx([100 * end for end in e.interval])
            (open_one,) = [line for line in axis.lines if line.get_marker() == "D"]
            assert (open_one.get_xdata()[0], names[open_one.get_ydata()[0]]) == (0, reference)
    nothing = gather(planned(experiment), folder / "nothing")
    assert not experiment_figures.draw_differences(nothing, ["lamb"], tmp_path / "any.png", "made up")
    alone = {"sst2": cells["sst2"], "rte": nothing["rte"]}
    for one in (alone, {"sst2": cells["sst2"]}):
        assert experiment_figures.draw_differences(one, ["lamb"], tmp_path / "any.png", "made up")
        assert [axis.get_title() for axis in drawn[-1].axes] == ["sst2 (accuracy)"]


@pytest.mark.parametrize(("first", "last"), [(7, 80), (13, 50), (200, 70_000)])
def test_every_axis_of_costs_has_ticks_with_names(first, last, tmp_path, drawn):
    cells = cells_of_scala("noise_radius = 0.1", tmp_path)
    for cell in cells["sst2"].values():
        for result in cell.results.values():
            for point, step in zip(result["curve"], np.geomspace(first, last, 3), strict=True):
                point["step"] = step
    assert experiment_figures.draw_speedup(cells, "scala", tmp_path / "any.png", "made up", {"step": "steps"})
    (axis,) = drawn[0].axes
    drawn[0].canvas.draw()
    low, high = axis.get_xlim()
    named = [
        at
        for at, label in zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)
        if low <= at <= high and label.get_text()
    ]
    assert 2 <= len(named) <= 12


def test_a_further_split_has_a_column_and_no_part_in_the_average(experiment, folder):
    cells = gather(planned(experiment), folder)
    before, apart = rows(tables.scores_table(cells)), rows(tables.differences_table(cells, "adamw-32"))
    for cell in cells["sst2"].values():
        for result in cell.results.values():
            labels = result["labels"]
            predictions = labels if cell.method == "lamb" else [1 - label for label in labels]
            result["further"] = {
                "validation_mismatched": {"score": float(predictions == labels), "predictions": predictions, "labels": labels}
            }
    after = rows(tables.scores_table(cells))
    assert {name: row.pop("sst2 mismatched (accuracy)") for name, row in after.items()} == {
        "adamw-32": "0.0 [-1.8, 1.8] n=3",
        "lamb": "100.0 [98.2, 101.8] n=3",
        "scala noise_radius 0.01": "0.0 [-1.8, 1.8] n=3",
        "scala noise_radius 0.1": "0.0 [-1.8, 1.8] n=3",
    }
    assert after == before
    differences = rows(tables.differences_table(cells, "adamw-32"))
    assert differences["lamb"].pop("sst2 mismatched").startswith("+100.0")
    assert differences["lamb"] == apart["lamb"]
    assert set(apart["lamb"]) == {"sst2", "rte", "average"}
    assert apart["lamb"]["average"] not in ("not all run", apart["lamb"]["sst2"], apart["lamb"]["rte"])


def test_one_task_has_no_mean_over_tasks(experiment, folder):
    cells = gather({"sst2": planned(experiment)["sst2"]}, folder)
    scores, against = tables.scores_table(cells), tables.differences_table(cells, "lamb")
    assert (scores[0], against[0]) == (["method", "batch", "sst2 (accuracy)"], ["against lamb", "sst2"])
    for head, lines in (scores, against):
        assert {len(line) for line in lines} == {len(head)}


def test_seconds_are_shown_where_runs_are_made_side_by_side(experiment, folder, tmp_path):
    text = experiment.read_text()
    for stem in ("main", "speedup"):
        (tmp_path / f"{stem}.toml").write_text(text)
        path = tmp_path / f"{stem}.toml"
        page = experiment_page.write(path, planned(path), folder, tmp_path / "out").path.read_text()
        assert "speed-up in gradient evaluations" in page
        assert f"({stem}-differences.png)" in page
        assert ("seconds" in page) == (stem == "speedup")


def test_seconds_of_different_machines_are_not_compared(experiment, folder):
    for run in load_experiment(experiment, "sst2"):
        if run.method == "lamb":
            keep(run, folder, 0.95, machine="gpu")
    cells = gather({"sst2": planned(experiment)["sst2"]}, folder)
    assert hardware(cells["sst2"]["lamb"]) == {"gpu"}
    found = {row[1]: row for row in tables.speedup_table(cells, "adamw-32", lower_end=False)[1]}
    assert found["lamb"][11] == "other hardware"
    assert found["lamb"][9] != "other hardware"
    shared = next(iter(cells["sst2"]["lamb"].results.values()))
    shared["cost"]["processes"] = 4  # no less other hardware than another GPU
    assert hardware(cells["sst2"]["lamb"]) == {"gpu", "4 processes: gpu"}
    shared["cost"]["processes"] = 1
    assert found["adamw-32"][9:] == ["1.00 [1.00, 1.00]"] * 3 + [found["adamw-32"][12]]
    assert found["scala noise_radius 0.01"][6:12] == ["not reached"] * 6


def points(*scores, cost=1.0):
    return [
        {"step": i * cost, "gradient_evaluations": 2 * i * cost, "train_seconds": 3 * i * cost, "eval_dev_accuracy": score}
        for i, score in enumerate(scores, 1)
    ]


def curve(seed, *scores, cost=1.0):
    task = {"name": "t", "split": "dev", "metric": "accuracy", "source": {}}
    return {"settings": {"seed": seed, "method": "x"}, "task": task, "labels": [0, 1], "curve": points(*scores, cost=cost)}


def test_cost_to_the_baselines_mean_score():
    base = [curve(0, 0.5, 0.7, 0.8), curve(1, 0.5, 0.7, 0.6)]  # mean at the end 0.7, and already at its second evaluation
    fast = [curve(0, 0.9, 0.9, 0.9, cost=0.5), curve(1, 0.5, 0.6, 0.6, cost=0.5)]
    found = reach(fast, base)
    assert found.target == pytest.approx(0.7)
    assert (found.seeds, found.of) == (1, 2)
    assert found.cost == {"step": 0.5, "gradient_evaluations": 1.0, "train_seconds": 1.5}
    assert found.speedup == pytest.approx(dict.fromkeys(found.cost, 4.0))
    low, high = found.interval["step"]
    assert low < 4.0 <= high
    never = reach([curve(0, 0.1, 0.2, 0.3), curve(1, 0.1, 0.2, 0.3)], base)
    assert (never.cost, never.speedup["step"], never.interval["step"][0]) == (None, 0, 0)
    assert reach(base, base, margin=0.15).cost["step"] == 2
    assert reach(base[:1], base[:1]).interval is None


def test_what_does_not_pair_is_refused():
    with pytest.raises(ValueError, match=r"seeds \[1\] and \[0\] do not pair"):
        reach([curve(1, 0.5)], [curve(0, 0.5)])
    with pytest.raises(ValueError, match="evaluated at different steps"):
        reach([curve(0, 0.5), curve(1, 0.5, 0.6)], [curve(0, 0.5), curve(1, 0.5)])


def test_lower_end_is_easier_to_reach_than_the_mean(experiment, folder):
    column = gather(planned(experiment), folder)["sst2"]
    mean, low = (reached(column, column["lamb"], "adamw-32", end) for end in (False, True))
    assert low.target < mean.target


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_experiment_file_plans_runs(path, tmp_path):
    by_task = planned(path)
    if path.stem.startswith(("demo", "defaults")):
        return
    for runs in by_task.values():
        assert len(set(runs)) == len(runs) > 0
        settings = {dataclasses.replace(run, seed=0) for run in runs}
        assert len(settings) * len({run.seed for run in runs}) == len(runs)
        assert len(gather({"task": runs}, tmp_path)["task"]) == len(settings)  # two of one name would hide each other


def test_each_method_is_tuned_by_as_many_runs():
    for path in EXPERIMENTS.glob("tuning*.toml"):
        for runs in planned(path).values():
            methods = [run.method for run in runs]
            assert len({methods.count(method) for method in methods}) == 1, path
            assert all(run.held_out == 0.1 for run in runs), path


def test_a_radius_found_on_one_encoder_is_not_played_on_another():
    """0.03 was found on bert-tiny; MiniLM bears a tenth of it on CoLA. SAM's 0.05, its paper's, was found on images."""
    radius = {name: key for name, rival in RIVALS.items() for key in ("noise_radius", "sam_rho") if key in rival.reads}
    radius["none"] = "noise_radius"
    found = defaultdict(set)
    for path in EXPERIMENTS.glob("*.toml"):
        if not path.stem.startswith(("demo", "defaults", "tuning")):
            for run in (run for runs in planned(path).values() for run in runs if run.model != "bert-tiny"):
                options = dict(run.options)
                if options.get("noise") != "none" and (key := radius.get(options.get("rival", "none"))):
                    found[path.stem, run.task, run.method].add(options[key])
    foreign = {where for where, values in found.items() if values <= {0.03, 0.05}}
    assert foreign == {("ablation-rho", "cola", "sam")}, "shown as that"
    assert len(found) > 60


def test_command(folder, tmp_path, capsys):
    assert (
        experiment_page.main(
            ["--results", str(folder), "--out", str(tmp_path / "t"), "--experiments", str(EXPERIMENTS / "main.toml")]
        )
        == 0
    )
    assert "Nothing of it has been run" in (tmp_path / "t/main.md").read_text()
    assert experiment_page.main(["--experiments", "/nowhere.toml", "--out", str(tmp_path)]) == 1
    assert "cannot be read" in capsys.readouterr().err
