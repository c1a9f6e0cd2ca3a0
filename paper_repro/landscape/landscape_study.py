"""The landscape's study: train runs of the main comparison again, keep their weights, measure every checkpoint, compare.

Each run, each portrait and each further slice is a file in the study's folder, so killed at any point the same call goes on.
"""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from paper_repro.data.tasks import load_task
from paper_repro.landscape.checkpoints import KeepWeights, model_of, steps_at, weights_file
from paper_repro.landscape.objective import Objective, weights
from paper_repro.landscape.portrait import Data, Sizes, portrait, rounded
from paper_repro.landscape.slices import barrier, filter_normalized, surface
from paper_repro.record import provenance, read_json, write_json
from paper_repro.runs.experiment import Run
from paper_repro.runs.run import execute
from paper_repro.sweep import end_with_parent
from scala.adapt import quiet

SHARES = (0.0, 0.1, 0.5, 0.75, 1.0)
"""Of a run's steps: where its checkpoints are."""

PLANE = tuple(np.linspace(-1, 1, 17).round(4).tolist())
"""Where the surface is taken, on both axes; 1 is a move as large as the weights."""

BARRIER_POINTS = 9


@dataclass(frozen=True)
class Study:
    """What is trained and measured.

    Attributes:
        runs: all on one task with one encoder; their seeds pair them.
        folder: where everything goes.
        glue_dir: folder of the official GLUE files; None: the hub.
        committed: folder of finished runs, see `paper_repro.runs.store`: what was trained here must agree with what is there.
        sizes: of the measurement.
    """

    runs: tuple[Run, ...]
    folder: Path
    glue_dir: str | None = None
    committed: Path | None = None
    sizes: Sizes = field(default_factory=Sizes)

    def __post_init__(self) -> None:
        """Refuse what cannot be compared.

        Raises:
            ValueError: no runs, more than one task or encoder, or a method with two settings.
        """
        if len({(run.task, run.model, run.train_examples, run.held_out, run.max_length) for run in self.runs}) != 1:
            raise ValueError("the landscape is of one task, the same examples of it, and one encoder")
        if len({(run.method, run.seed) for run in self.runs}) < len(self.runs):
            raise ValueError("one run for a method and seed: which one is meant by a name must be clear")

    @property
    def measures(self) -> Path:
        """Folder of all that was measured, one for each choice of sizes: what was measured otherwise is never mixed in."""
        digest = hashlib.sha256(repr((self.sizes, PLANE, BARRIER_POINTS)).encode()).hexdigest()[:8]
        return self.folder / f"measures-{digest}"

    def weights(self, run: Run) -> Path:
        """Folder of a run's checkpoints."""
        return self.folder / "weights" / run.identity

    def finished_weights(self, run: Run) -> Path:
        """Weights of the finished model."""
        return max(self.weights(run).glob("*.safetensors"), key=lambda path: int(path.stem))

    def portrait_file(self, run: Run, step: int) -> Path:
        """Where the measures of a checkpoint lie; all methods have one start, which a seed decides."""
        name = f"{run.identity}-{step}" if step else f"start-s{run.seed}"
        return self.measures / "portraits" / f"{name}.json"


Progress = Callable[[str], None]


def make(study: Study, workers: int = 2, progress: Progress = print) -> dict[str, Any]:
    """Do all that is not done yet, and gather it.

    Args:
        study: what.
        workers: processes, one thread each.
        progress: told of every finished part.

    Returns:
        The record: task, model, data (how many sentences), runs (method, seed, batch, learning_rate, score, points: see
        `paper_repro.landscape.portrait.portrait`, with step and of), barriers (start, end, height and the losses, seed by
        seed), surfaces (method, seed, at, losses), agrees (whether scores equal the committed runs'; null: none committed),
        provenance.

    Raises:
        TimeoutError: another call is at work in this folder.
        ValueError: data or a kept file are not as they should be.
    """
    study.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(study.folder / "study.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise TimeoutError(
            f"another process is making the landscape in {study.folder}; wait for it or use another folder"
        ) from error
    try:
        with _pool(workers) as pool:
            _finish([pool.submit(train_and_measure, study, run) for run in study.runs], progress)
            _finish([pool.submit(part, study, *given) for part, given in _between(study)], progress)
    finally:
        lock.release()
    return gather(study)


def _pool(workers: int) -> ProcessPoolExecutor:
    # Read when torch is imported, so set before the processes start.
    os.environ["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // workers))
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)


def _finish(parts: Sequence[Future[str]], progress: Progress) -> None:
    for number, part in enumerate(as_completed(parts), 1):
        try:
            progress(f"[{number}/{len(parts)}] {part.result()}")
        except BaseException:
            for other in parts:
                other.cancel()
            raise


def train_and_measure(study: Study, run: Run) -> str:
    """Train a run, keeping its weights, and measure each checkpoint that has no portrait yet."""
    quiet()
    data = _data(study)
    steps = -(-data.examples // run.batch_size) * run.epochs
    points = steps_at(SHARES, steps)
    if not all(study.portrait_file(run, step).exists() or weights_file(study.weights(run), step).exists() for step in points):
        (study.folder / "runs" / run.task / f"{run.identity}.json").unlink(missing_ok=True)  # a run whose weights were deleted
    keep = KeepWeights(study.weights(run), SHARES)
    result = execute(run, study.folder / "runs" / run.task, study.glue_dir, callbacks=[keep])
    for step in points:
        if study.portrait_file(run, step).exists():
            continue
        model = model_of(run, data.labels, weights_file(study.weights(run), step))
        found = portrait(model, data, study.sizes, whole=step == points[-1])
        write_json(study.portrait_file(run, step), {"step": step, **found}, compact=True)
    return f"{run.method}, seed {run.seed}: score {result['score']:.4f}, {len(points)} checkpoints measured"


def _between(study: Study) -> Iterator[tuple[Callable[..., str], tuple[Run, ...]]]:
    """Slices that need finished models: a barrier for each pair of methods at a seed and of seeds of a method, surfaces."""
    for first, second in itertools.combinations(study.runs, 2):
        if (first.seed == second.seed) != (first.method == second.method):
            yield barrier_between, (first, second)
    least = min(run.seed for run in study.runs)
    for run in study.runs:
        if run.seed == least:
            yield surface_at, (run,)


@lru_cache(maxsize=1)
def _data(study: Study) -> Data:
    run = study.runs[0]  # they agree in all that is read here
    return Data.of(load_task(run.task, study.glue_dir, run.train_examples, run.held_out), run, study.sizes)


def _barrier_file(study: Study, first: Run, second: Run) -> Path:
    return study.measures / "barriers" / f"{first.identity}--{second.identity}.json"


def _surface_file(study: Study, run: Run) -> Path:
    return study.measures / "surfaces" / f"{run.identity}.json"


def _objective(study: Study, run: Run) -> tuple[Objective, np.ndarray]:
    """The loss of the run's model, and its finished weights."""
    data = _data(study)
    model = model_of(run, data.labels, study.finished_weights(run))
    return Objective.of_model(model, data.sorted), weights(model)


def barrier_between(study: Study, first: Run, second: Run) -> str:
    """The loss between two finished models."""
    said = f"barrier {first.method} (seed {first.seed}) to {second.method} (seed {second.seed})"
    path = _barrier_file(study, first, second)
    if path.exists():
        return said
    objective, start = _objective(study, first)
    found = barrier(objective.value, start, _objective(study, second)[1], BARRIER_POINTS)
    ends = {"start": first.method, "start_seed": first.seed, "end": second.method, "end_seed": second.seed}
    write_json(path, rounded(ends | {"height": found.height, "losses": found.losses.tolist()}), compact=True)
    return said


def surface_at(study: Study, run: Run) -> str:
    """The loss in a filter-normalised plane through a finished model; the same random directions for all."""
    path = _surface_file(study, run)
    if not path.exists():
        objective, x = _objective(study, run)
        first, second = (filter_normalized(x, objective.shapes, seed) for seed in (0, 1))
        losses = surface(objective.value, x, first, second, np.array(PLANE))
        write_json(path, rounded({"method": run.method, "seed": run.seed, "losses": losses.tolist()}), compact=True)
    return f"surface of {run.method}, seed {run.seed}"


def gather(study: Study) -> dict[str, Any]:
    """The record of a finished study, see `make`; ValueError if one of its files is damaged."""
    runs, agrees = [], []
    for run in study.runs:
        result = execute(run, study.folder / "runs" / run.task)
        steps = result["cost"]["steps"]
        points = [read_json(study.portrait_file(run, step)) | {"of": steps} for step in steps_at(SHARES, steps)]
        settings = {"batch": run.batch_size, "learning_rate": run.learning_rate}
        runs.append({"method": run.method, "seed": run.seed, **settings, "score": result["score"], "points": points})
        if study.committed is not None and (path := study.committed / run.task / f"{run.identity}.json").exists():
            agrees.append(read_json(path)["predictions"] == result["predictions"])
    pairs = [given for part, given in _between(study) if part is barrier_between]
    shown = [given[0] for part, given in _between(study) if part is surface_at]
    sizes = study.sizes
    return {
        "task": study.runs[0].task,
        "model": study.runs[0].model,
        "data": {"sentences": sizes.sentences, "noise_batches": sizes.batches, "noise_batch": sizes.batch},
        "runs": runs,
        "barriers": [read_json(_barrier_file(study, *pair)) for pair in pairs],
        "surfaces": {"at": PLANE, "of": [read_json(_surface_file(study, run)) for run in shown]},
        "agrees": {"with_committed_runs": sum(agrees), "of": len(agrees)},
        "provenance": provenance(("torch", "transformers", "numpy", "scipy", "scala-adapt")),
    }
