"""What the follower's noise meets when it begins, and what radius the model bears there.

    python -m paper_repro.onset --tasks sst2 --seeds 0 1 2 --glue-dir /data/glue      # or `make onset`

Up to the step t_s a run of ScaLA is LAMB's. There this measures, on training sentences, what LAMB has learnt: the loss of the
best constant answer (the entropy of the classes) less the model's; and what the noise takes of it: the rise of the loss at
each radius. Where it takes more than all, a constant answers the noise better than the model does, and the leader, who descends
the loss under the noise, has reason to go back to it. Beside this prediction stands what the runs of ablation-radius.toml and
ablation-onset.toml came to: whether they end worse than LAMB's run of that seed, and whether with one class for every sentence.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from paper_repro.analysis.statistics import estimate
from paper_repro.analysis.table import Table
from paper_repro.command import command, parser
from paper_repro.data.tasks import Task, load_task
from paper_repro.landscape.checkpoints import KeepWeights, model_of, weights_file
from paper_repro.landscape.portrait import Data, Sizes, rounded
from paper_repro.landscape.sharpness import embedding_sharpness
from paper_repro.record import RESULTS, provenance, read_json, write_json, write_whole
from paper_repro.runs.experiment import Run, read_toml
from paper_repro.runs.origin import same_examples
from paper_repro.runs.run import execute
from paper_repro.runs.store import result_path, with_results
from paper_repro.runs.tuning import EXPERIMENTS, TUNING, load_tuned, measured
from scala.adapt import quiet
from scala.adversary import Adversary
from scala.onset import constant_loss

RADII = tuple(float(f"{radius:.3g}") for radius in np.geomspace(1e-3, 0.3, 11))
"""Where the rise is measured, beside the radii of the runs."""

_SIZES = Sizes(sentences=512, batch=32, batches=1)
_FILES = ("ablation-radius.toml", "ablation-onset.toml")

Record = Mapping[str, Any]


class _Reached(Exception):
    """The step is reached; the rest of the run is not of interest."""


class _KeepAndStop(KeepWeights):
    """Ends the training once all the weights are kept."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module | None = None, **_: Any
    ) -> None:
        super().on_step_end(args, state, control, model=model)
        if state.global_step == round(max(self.shares) * state.max_steps):
            raise _Reached


def weights_at(run: Run, shares: Sequence[float], task: Task, folder: Path, glue_dir: str | None = None) -> list[Path]:
    """The files of a run's weights after each share of its steps: trained up to the last of them, or kept from before.

    Raises:
        ValueError: a share is not in (0, 1).
    """
    if not all(0 < share < 1 for share in shares):
        raise ValueError(f"the share of the steps before the noise must lie in (0, 1), got {', '.join(map(str, shares))}")
    steps = -(-len(task.train) // run.batch_size) * run.epochs
    kept = folder / "weights" / run.identity
    paths = [weights_file(kept, round(share * steps)) for share in shares]
    if not all(path.exists() for path in paths):
        with contextlib.suppress(_Reached):
            execute(run, folder / "runs" / run.task, glue_dir, callbacks=[_KeepAndStop(kept, shares)])
        # The run ends here, so its checkpoints are of no more use.
        shutil.rmtree(result_path(run, folder / "runs").with_suffix(""), ignore_errors=True)
    return paths


def measure(model: nn.Module, batches: Sequence[dict[str, torch.Tensor]], radii: Sequence[float]) -> dict[str, Any]:
    """What a model has learnt, and what one ascent step to the boundary takes of it at each radius.

    Args:
        model: a classifier in evaluation mode.
        batches: see `paper_repro.landscape.sharpness.embedding_sharpness`.
        radii: relative to each sample's embeddings.

    Returns:
        `constant` (the loss of the best constant answer, nats), `loss`, `radii`, `rises`.
    """
    found = [embedding_sharpness(model, batches, Adversary(radius, relative=True)) for radius in radii]
    return {
        "constant": constant_loss(torch.cat([batch["labels"] for batch in batches])),
        "loss": found[0].clean,
        "radii": list(radii),
        "rises": [one.rise for one in found],
    }


def taken(point: Record) -> np.ndarray:
    """Of what the model has learnt, the share that the noise takes at each radius; infinite if nothing is learnt."""
    learnt = point["constant"] - point["loss"]
    rises = np.array(point["rises"])
    return rises / learnt if learnt > 0 else np.full_like(rises, np.inf)


def study(runs: Sequence[Run], folder: Path, results: Path, glue_dir: str | None = None) -> list[dict[str, Any]]:
    """Measure every LAMB run where the noise of its ScaLA runs begins, and find what those came to.

    Args:
        runs: of an experiment on one task: "lamb", and others with noise at several radii and delays, else the same.
        folder: for weights and measurements; what is there is not done again.
        results: finished runs, see `paper_repro.runs.store`.
        glue_dir: folder of the official GLUE files; None: the hub.

    Returns:
        A point a delay and seed: task, model, delay, seed, step, what `measure` returns, and `outcomes` of each finished run:
        radius, score, `against` (the difference to LAMB's score with the 95% interval that the dev sentences leave), one_class.

    Raises:
        ValueError: no LAMB run; the others differ from it in rate, batch or epochs; a task without classes.
    """
    plain = [run for run in runs if run.method == "lamb"]
    noisy = [run for run in runs if run.method != "lamb"]
    if not plain or not noisy or len({(run.learning_rate, run.batch_size, run.epochs) for run in runs}) != 1:
        raise ValueError("the study takes runs of lamb, and runs that are the same up to the step at which their noise begins")
    task = load_task(plain[0].task, glue_dir, plain[0].train_examples, plain[0].held_out)
    if task.labels is None:
        raise ValueError(f"{task.name} is a regression; the best constant answer's entropy is of classes")
    data = Data.of(task, plain[0], _SIZES)
    radii = sorted({*RADII, *(_radius(run) for run in noisy)})
    delays = sorted({_delay(run) for run in noisy})
    points = []
    for run, delay in itertools.product(plain, delays):
        path = folder / "points" / f"{run.identity}-{delay}.json"
        point = read_json(path) if path.exists() else None
        if point is None or point["radii"] != radii:  # the experiment's radii may have changed since
            weights = weights_at(run, delays, task, folder, glue_dir)[delays.index(delay)]
            found = measure(model_of(run, len(task.labels), weights), data.sorted, radii)
            point = rounded({"step": int(weights.stem), **found, "radii": radii})
            write_json(path, point, compact=True)
        noise = [one for one in noisy if one.seed == run.seed and _delay(one) == delay]
        outcomes = [
            _outcome(one, result, without)
            for _, without in with_results([run], results)
            for one, result in with_results(noise, results)
        ]
        name = {"task": run.task, "model": run.model, "delay": delay, "seed": run.seed}
        points.append({**name, **point, "outcomes": outcomes})
        print(
            f"{run.task}, delay {delay}, seed {run.seed}: all that is learnt is taken at radius {bearable(point):.3g}",
            flush=True,
        )
    return sorted(points, key=lambda point: point["delay"])


def _outcome(run: Run, result: Record, without: Record) -> dict[str, Any]:
    labels = same_examples([result, without])
    own, other = (np.array([one["predictions"]], dtype=float) for one in (result, without))
    found = estimate(result["task"]["metric"], own, labels, other)
    one_class = len(set(result["predictions"])) == 1
    return {"radius": _radius(run), "score": result["score"], "against": [found.mean, *found.interval], "one_class": one_class}


def _delay(run: Run) -> float:
    return dict(run.options)["noise_delay"]


def _radius(run: Run) -> float:
    return dict(run.options)["noise_radius"]


def bearable(point: Record) -> float:
    """The radius at which the noise takes all that was learnt, between the measured ones on log scales; infinite: at none."""
    share = taken(point)
    above = np.flatnonzero(share >= 1)
    if not len(above):
        return np.inf
    k = int(above[0])
    if k == 0:
        return float(point["radii"][0])
    x, y = np.log(point["radii"][k - 1 : k + 1]), np.log(share[k - 1 : k + 1])
    return float(np.exp(x[0] + (x[1] - x[0]) * (0 - y[0]) / (y[1] - y[0])))


def worse(outcome: Record) -> bool:
    """Whether a run ended worse than LAMB's of the same seed by more than its dev sentences leave open."""
    return outcome["against"][2] < 0


def agreement(points: Sequence[Record]) -> dict[str, dict[str, int]]:
    """Of the runs whose noise takes all that was learnt, and of the others: how many there are, end worse, with one class."""
    count = {group: {"runs": 0, "worse": 0, "one_class": 0} for group in ("all", "less")}
    for point in points:
        share = dict(zip(point["radii"], taken(point), strict=True))
        for run in point["outcomes"]:
            group = count["all" if share[run["radius"]] >= 1 else "less"]
            group["runs"] += 1
            group["worse"] += worse(run)
            group["one_class"] += run["one_class"]
    return count


def page(record: Record) -> str:
    """Markdown: what was measured, a row a task and seed, and how the prediction fares."""
    lines = [
        "# When the noise begins",
        "",
        f"{record['sentences']} training sentences a task, in evaluation mode, at the step where the noise begins; up to it "
        "LAMB's run is ScaLA's. Learnt is the loss of the best constant answer (the classes' entropy) less the model's. Behind "
        "each radius: the dev score's difference to LAMB's run of that seed, in points.",
        "",
    ]
    rows = []
    for point in record["points"]:
        runs = ", ".join(
            f"{run['radius']:g}: {100 * run['against'][0]:+.1f}"
            + (" (one class)" if run["one_class"] else " (worse)" if worse(run) else "")
            for run in point["outcomes"]
        )
        losses = f"{point['constant']:.3f}", f"{point['loss']:.3f}"
        names = (str(point[key]) for key in ("task", "model", "delay", "seed"))
        rows.append([*names, *losses, f"{bearable(point):.3g}", runs or "not run"])
    head = ["task", "encoder", "delay", "seed", "constant's loss", "model's loss", "all is taken at radius", "runs"]
    of_all, of_less = record["agreement"]["all"], record["agreement"]["less"]
    lines += [
        Table(head, rows).markdown(aligned=False),
        "",
        f"Where the noise takes all that was learnt, {of_all['worse']} of {of_all['runs']} runs end worse than LAMB's (95%, "
        f"over the dev sentences), {of_all['one_class']} of them with one class for every sentence; where it takes less, "
        f"{of_less['worse']} of {of_less['runs']}, {of_less['one_class']} with one class.",
        "",
        "![Share of what is learnt that the noise takes, by radius, with what the runs came to](onset-shares.svg)",
    ]
    return "\n".join(lines)


def figure(points: Sequence[Record]) -> Figure:
    """The share that is taken against the radius, a panel a task and delay, with the runs on it."""
    panels: dict[tuple[str, str, float], list[Record]] = {}
    for point in points:
        panels.setdefault((point["task"], point["model"], point["delay"]), []).append(point)
    size = (1 + 3.4 * len(panels), 3.8)
    drawn, grid = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, ((task, model, delay), own) in zip(grid.flat, panels.items(), strict=True):
        for point in own:
            share = taken(point)
            axis.plot(point["radii"], share, color="#0072B2", lw=1.2, alpha=0.7)
            at = dict(zip(point["radii"], share, strict=True))
            for run in point["outcomes"]:
                fill = "#D55E00" if run["one_class"] else "#F5C39B" if worse(run) else "white"
                axis.plot([run["radius"]], [at[run["radius"]]], "o", ms=7, mfc=fill, mec="#D55E00", mew=1.3)
        axis.axhline(1, color="0.35", ls="--", lw=1)
        axis.set(
            xscale="log",
            yscale="log",
            xlabel="radius, of the sample's embeddings",
            title=f"{task}, {model}, from {delay:.0%} on",
        )
        axis.grid(alpha=0.25)
    grid[0, 0].set_ylabel("share of what is learnt\nthat the noise takes when it begins")
    handles = [
        Line2D([], [], color="#0072B2", lw=1.2, label="measured, a line a seed"),
        Line2D([], [], color="0.35", ls="--", lw=1, label="all"),
        Line2D([], [], ls="", marker="o", mfc="white", mec="#D55E00", label="the run ends as LAMB's does"),
        Line2D([], [], ls="", marker="o", mfc="#F5C39B", mec="#D55E00", label="worse"),
        Line2D([], [], ls="", marker="o", mfc="#D55E00", mec="#D55E00", label="with one class"),
    ]
    drawn.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=9)
    return drawn


def _experiment(task: str) -> Path:
    for path in (EXPERIMENTS / name for name in _FILES):
        if task in read_toml(path)["tasks"]:
            return path
    raise ValueError(f"no radius was varied on {task!r}: neither {' nor '.join(_FILES)} has it")


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, compare, draw; returns the exit status."""
    options = parser("paper_repro.onset", __doc__)
    options.add_argument(
        "--tasks", nargs="+", default=["sst2", "acceptability", "cola"], help="of ablation-radius.toml or ablation-onset.toml"
    )
    options.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options.add_argument("--glue-dir", help="folder of the official GLUE files; without it the hub")
    options.add_argument("--results", type=Path, default=RESULTS / "glue", help="folder of finished runs")
    options.add_argument("--out", type=Path, default=Path("runs/onset"), help="weights, onset.json, onset.md and a figure")
    args = options.parse_args(arguments)
    quiet()
    points: list[dict[str, Any]] = []
    for task in args.tasks:
        runs = load_tuned(_experiment(task), task, measured(TUNING), seeds=args.seeds)
        points += study(runs, args.out, args.results, args.glue_dir or None)
    sources = {"sentences": _SIZES.sentences, "provenance": provenance(("torch", "transformers", "numpy", "scala-adapt"))}
    record = {"points": points, "agreement": agreement(points), **sources}
    write_json(args.out / "onset.json", record, compact=True)
    write_whole(args.out / "onset.md", page(record) + "\n")
    figure(points).savefig(args.out / "onset-shares.svg")
    print(page(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
