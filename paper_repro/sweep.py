"""All runs of an experiment file, within a budget of time; each finished run is a file, and started again it skips those.

    python -m paper_repro.sweep paper_repro/experiments/main.toml --tasks cola mrpc --seeds 0 1 2 --glue-dir /data/glue
        --workers 2 --budget-min 60 --out runs/glue

The most informative runs come first (the first seed of every task and method, then the second), so that an interruption leaves
a table. Runs of all experiments share the folder OUT/TASK: a run is known by all its settings, and no two sweeps do it twice.
It may be killed at any point: the same command continues. A run that diverges is a result as well, a file that is counted and
not tried again until it is deleted.

Under torchrun every process works on the same run. Across machines, `--engine submitit` makes each run a Slurm job.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import math
import multiprocessing
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from paper_repro import smoke
from paper_repro.analysis import experiment_page, tables
from paper_repro.analysis.cells import gather, rows_of
from paper_repro.analysis.statistics import student
from paper_repro.command import command, parser
from paper_repro.data.glue import GLUE_TASKS
from paper_repro.data.tasks import EMBEDDED, unknown
from paper_repro.record import write_json
from paper_repro.runs.experiment import Run, read_toml
from paper_repro.runs.origin import refuse_other_origin
from paper_repro.runs.run import Progress, execute
from paper_repro.runs.store import diverged_path, finished, record_divergence, result_path, with_results
from paper_repro.runs.tuning import TUNING, load_tuned, measured, summary_file
from scala.adapt import quiet
from scala.game import NonFiniteLoss

SILENCE = 60.0
"""Seconds between two lines about a run in progress."""


class BudgetSpent(Exception):
    """The time is over; the run in progress continues from its last checkpoint another time."""


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep; returns the exit status."""
    args = _options().parse_args(arguments)
    quiet()
    return _sweep(args)


def _options() -> argparse.ArgumentParser:
    options = parser("paper_repro.sweep", __doc__)
    options.add_argument("experiment", type=Path, help="TOML file, see paper_repro/runs/experiment.py")
    options.add_argument("--tasks", "--task", nargs="+", help="default: the file's [tasks.*]")
    options.add_argument("--methods", nargs="+", help="default: all of the file's")
    options.add_argument("--glue-dir", help="folder with the official GLUE files; without it they come from the hub")
    options.add_argument(
        "--model", help="in place of the file's: minilm-l6, bert-tiny, mpnet-base, a local folder, or a hub name"
    )
    options.add_argument("--seeds", type=int, nargs="+")
    options.add_argument("--epochs", type=int, help="in place of the file's")
    options.add_argument("--train-examples", type=int, help="in place of the file's: a fixed random part of this size; 0: all")
    options.add_argument("--budget-min", type=float, default=math.inf, help="stop after so many minutes")
    options.add_argument("--workers", type=int, default=1, help="processes on this machine, each with its share of the threads")
    options.add_argument("--out", type=Path, default=Path("runs/sweeps"))
    options.add_argument("--summary", type=Path, help="JSON file of the summary, or a folder: one MODEL-TASK.json a task there")
    options.add_argument("--tuning", type=Path, default=TUNING, help='folder of the summaries that "tuned" refers to')
    options.add_argument("--engine", choices=("local", "submitit"), default="local", help="submitit: a Slurm job a run")
    options.add_argument(
        "--slurm", nargs="+", default=[], metavar="KEY=VALUE", help="for submitit: timeout_min=120 gpus_per_node=1"
    )
    options.add_argument(
        "--report-to", nargs="+", default=["none"], metavar="TRACKER", help="also: tensorboard, wandb ... (as in transformers)"
    )
    options.add_argument("--smoke", action="store_true", help="a tiny random model and made-up data: the path, not the numbers")
    return options


def _sweep(args: argparse.Namespace) -> int:
    if args.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {args.workers}")
    tasks = _tasks(args)
    terms = Terms(args.out, args.glue_dir, time.time() + 60 * args.budget_min, args.workers, tuple(args.report_to))
    if args.smoke:
        out = args.out / "smoke"
        reported, made_up = smoke.prepare(args.experiment, tasks, args.methods, args.seeds, out)
        runs, terms = reported, replace(terms, out=out, glue_dir=made_up)
        if _rank() == 0:
            print(smoke.WARNING)
    else:
        runs = _planned(args, tasks, args.methods)
        # A summary is of the whole file, also where only a part of it is worked on.
        reported = _planned(args, tasks, None) if args.methods and args.summary else runs
    # Stable: within a seed by task, then in the file's order. A seed or task that was named twice counts once.
    runs = sorted(dict.fromkeys(runs), key=lambda run: run.seed)
    for run, result in with_results(runs, terms.out):
        refuse_other_origin(result_path(run, terms.out), result, terms.glue_dir)
    if args.engine == "submitit":
        jobs = submit(runs, terms, slurm(terms.out / "slurm", args.slurm))
        print(f"{jobs} jobs submitted, {len(runs) - jobs} runs already done; logs in {terms.out / 'slurm'}")
        return 0
    if _rank() == 0:
        print(f"{len(runs)} runs, {sum(finished(run, terms.out) for run in runs)} already done", flush=True)
        for run in runs:
            if (path := diverged_path(run, terms.out)).exists():
                print(f"{run.identity} diverged before; to try it again delete {path}")
    if args.workers == 1 or _processes() > 1:
        work(runs, terms)
    else:
        _pool(runs, terms)
    if _rank() == 0:
        _say_what_is_left(runs, terms, args.budget_min)
        _report(args, list(dict.fromkeys(reported)), terms.out)
    return 0


def _say_what_is_left(runs: Sequence[Run], terms: Terms, budget_min: float) -> None:
    left = sum(not finished(run, terms.out) for run in runs)
    if left and time.time() >= terms.deadline:
        print(f"budget of {budget_min:g} min spent; the same command continues with the {left} runs left")
    elif left:
        print(f"{left} runs are in the hands of another sweep")


def _planned(args: argparse.Namespace, tasks: Sequence[str], methods: Sequence[str] | None) -> list[Run]:
    best = measured(args.tuning)
    given = {key: getattr(args, key) for key in ("model", "seeds", "epochs", "train_examples")}
    return [run for task in tasks for run in load_tuned(args.experiment, task, best, methods, **given)]


def _tasks(args: argparse.Namespace) -> list[str]:
    tasks = args.tasks or list(read_toml(args.experiment).get("tasks", {}))
    if not tasks:
        raise ValueError(f"{args.experiment} names no [tasks.*]; say which with --tasks")
    for task in tasks:
        if task not in (EMBEDDED, *GLUE_TASKS):
            raise unknown(task)
    return tasks


@dataclass(frozen=True)
class Terms:
    """Where and how long runs are done; nothing that their numbers depend on.

    Attributes:
        out: results folder, see `paper_repro.runs.store`.
        glue_dir: folder of the official GLUE files; None: the hub.
        deadline: seconds since the epoch.
        workers: how many processes of this machine share the runs.
        report_to: trackers that get the metrics as well, by transformers' names.
    """

    out: Path
    glue_dir: str | None = None
    deadline: float = math.inf
    workers: int = 1
    report_to: tuple[str, ...] = ("none",)


def _pool(runs: Sequence[Run], terms: Terms) -> None:
    # Read when torch and its libraries are imported, so it is set before the processes start.
    os.environ["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // terms.workers))
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_worker, args=(runs, terms)) for _ in range(terms.workers)]
    try:
        for process in processes:
            process.start()
        alive = list(processes)
        while alive:
            wait([process.sentinel for process in alive])
            alive = [process for process in alive if process.is_alive()]
            failed = [process.exitcode for process in processes if process.exitcode]
            if failed:
                raise ChildProcessError(f"a worker ended with status {failed[0]}; what is finished is kept")
    finally:
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()


def _worker(runs: Sequence[Run], terms: Terms) -> None:
    """A process of the pool."""
    gc.freeze()
    end_with_parent()
    try:
        work(runs, terms)
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def end_with_parent() -> None:
    """This process of a pool shall end when its parent does, however that one ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def work(runs: Sequence[Run], terms: Terms) -> None:
    """Do the runs that nobody has done and nobody is doing, until none is left or the time is over.

    Args:
        runs: in the order of their importance.
        terms: where, and until when.
    """
    quiet()
    by_identity = {run.identity: run for run in runs}
    free = unclaimed(runs, terms.out) if _rank() == 0 else iter(())
    while True:
        choice = next(free, None) if time.time() < terms.deadline else None
        identity = _rank_0s(None if choice is None else choice.identity)
        if identity is None:
            return
        run = by_identity[identity]
        try:
            result = execute(run, terms.out / run.task, terms.glue_dir, watch(run, terms), terms.report_to)
            said = f"{result['score']:.4f}, {result['cost']['train_seconds']:.0f} s"
        except BudgetSpent:
            return
        except NonFiniteLoss as error:
            if _rank() == 0:
                record_divergence(run, terms.out, str(error))
            said = f"diverged: {error}"
        if _rank() == 0:
            done = sum(finished(r, terms.out) for r in runs)
            left = seconds_left(runs, terms.out)
            when = "" if done == len(runs) else f"; {_duration(left / terms.workers)} left" if left is not None else ""
            print(f"[{done}/{len(runs)}] {run.identity}: {said}{when}", flush=True)


def watch(run: Run, terms: Terms) -> Progress:
    """Of a run in progress: ends it when the time is over, and says once a minute how far it is."""
    spoken = time.monotonic()
    first: tuple[int, float] | None = None  # step and time of the first call: a continued run does not begin at 1

    def progress(step: int, steps: int, seconds: float, score: float | None) -> None:
        nonlocal spoken, first
        # Under torchrun a process must not leave a run that the others are in.
        if time.time() > terms.deadline and _processes() == 1:
            raise BudgetSpent
        now = time.monotonic()
        first = first or (step, now)
        begun, began = first
        if begun < step < steps and now - spoken >= SILENCE:
            spoken = now
            scored = "" if score is None else f", {score:.4f}"
            left = (now - began) / (step - begun) * (steps - step)
            print(f"[{run.identity}] step {step} of {steps}{scored}; {_duration(left)} of it left", flush=True)

    return progress


def unclaimed(runs: Sequence[Run], out: Path) -> Iterator[Run]:
    """The runs that are not finished and that no process has in hand, each locked for as long as the caller has it.

    The lock is the operating system's, so that of a killed process is free again. No run comes twice, even if no result
    appears.
    """
    given: set[Run] = set()
    found = True
    while found:  # another sweep may have been killed meanwhile
        found = False
        for run in runs:
            if run in given or finished(run, out):
                continue
            lock = FileLock(result_path(run, out).with_suffix(".lock"))
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                if not finished(run, out):
                    found = True
                    given.add(run)
                    yield run
            finally:
                lock.release()


def seconds_left(runs: Sequence[Run], out: Path) -> float | None:
    """What the unfinished runs will take in one process, from the finished ones; None while there are none.

    By the same settings with another seed where there are any; else by the time of a gradient evaluation of this model on this
    task, and the gradient evaluations a sample that the method made elsewhere; else by the mean of all.
    """
    same: dict[Run, list[float]] = defaultdict(list)
    pace: dict[tuple[str, str], list[float]] = defaultdict(list)
    factor: dict[str, float] = {}
    examples: dict[tuple[str, float, int], int] = {}
    for run, result in with_results(runs, out):
        cost = result["cost"]
        seconds = result["curve"][-1].get("wall_seconds", cost["train_seconds"])
        same[replace(run, seed=0)].append(seconds)
        pace[run.model, run.task].append(seconds / cost["gradient_evaluations"])
        factor[run.method] = cost["gradient_evaluations"] / (cost["train_examples"] * run.epochs)
        examples[run.task, run.held_out, run.train_examples] = cost["train_examples"]
    if not same:
        return None
    typical = float(np.mean([seconds for times in same.values() for seconds in times]))
    total = 0.0
    for run in runs:
        if finished(run, out):
            continue
        data = (run.task, run.held_out, run.train_examples)
        if times := same.get(replace(run, seed=0)):
            total += float(np.mean(times))
        elif (model := (run.model, run.task)) in pace and data in examples:
            total += float(np.mean(pace[model])) * factor.get(run.method, 1.0) * examples[data] * run.epochs
        else:
            total += typical
    return total


def _duration(seconds: float) -> str:
    return f"about {seconds / 3600:.1f} h" if seconds > 5400 else f"about {math.ceil(seconds / 60)} min"


def slurm(logs: Path, parameters: Sequence[str]) -> Any:
    """An executor of submitit (facebookincubator/submitit), which speaks to Slurm.

    Args:
        logs: folder of its logs.
        parameters: KEY=VALUE pairs of its `update_parameters`: timeout_min, gpus_per_node, slurm_partition ...

    Raises:
        ImportError: submitit is not installed.
        ValueError: a parameter without "=".
    """
    try:
        submitit = importlib.import_module("submitit")
    except ImportError as error:
        raise ImportError("--engine submitit needs the package submitit: pip install submitit") from error
    wrong = [pair for pair in parameters if "=" not in pair]
    if wrong:
        raise ValueError(f"--slurm takes KEY=VALUE, got {wrong[0]!r}")
    executor = submitit.AutoExecutor(folder=logs)
    pairs = (pair.split("=", 1) for pair in parameters)
    executor.update_parameters(**{key: int(value) if value.isdigit() else value for key, value in pairs})
    return executor


def submit(runs: Sequence[Run], terms: Terms, executor: Any) -> int:
    """Make each run that is not finished a job of its own, in one job array; returns how many."""
    waiting = [run for run in runs if not finished(run, terms.out)]
    of_a_job = Terms(terms.out.absolute(), terms.glue_dir, report_to=terms.report_to)
    with executor.batch():
        for run in waiting:
            executor.submit(work, [run], of_a_job)
    return len(waiting)


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _rank_0s(identity: str | None) -> str | None:
    """What the first process of torchrun says; all must enter the same run."""
    if _processes() == 1:
        return identity
    PartialState(cpu=not torch.accelerator.is_available())  # unless told, it takes processes on CPUs for strangers
    said = [identity]
    broadcast_object_list(said, from_process=0)
    return said[0]


def _report(args: argparse.Namespace, runs: Sequence[Run], out: Path) -> None:
    tasks = list(dict.fromkeys(run.task for run in runs))
    for task in tasks:
        own = [run for run in runs if run.task == task]
        found = [result for _, result in with_results(own, out)]
        lines = summary(found)
        for line in lines if own[0].held_out else ():  # of scores on dev data there is a page
            spread = "one seed" if line["interval"] is None else "[{:.4f}, {:.4f}]".format(*line["interval"])
            print(f"  {line['score']:.4f} {spread}  {line['method']:14s} {line['settings']}  seeds {line['seeds']}, {task}")
        if args.summary:
            path = args.summary
            if path.suffix != ".json":
                path = summary_file(path, args.experiment, own[0].model, task)
            elif len(tasks) > 1:
                raise ValueError(f"--summary {path} is one file for {len(tasks)} tasks; give a folder")
            content = {
                "experiment": args.experiment.name,
                "task": task,
                "model": own[0].model,
                "held_out": own[0].held_out,
                "metric": found[0]["task"]["metric"] if found else None,
                "source": found[0]["task"]["source"] if found else None,
                "lines": lines,
                "methods": grids(own, out),
                "provenance": found[-1]["provenance"] if found else None,
            } | ({"warning": smoke.WARNING} if args.smoke else {})
            write_json(path, content)
    if not any(run.held_out for run in runs):
        _write_page(args, {task: [run for run in runs if run.task == task] for task in tasks}, out)


def _write_page(args: argparse.Namespace, by_task: dict[str, list[Run]], out: Path) -> None:
    """The experiment's page, and of methods that were compared the verdict first."""
    cells = gather(by_task, out)
    page = experiment_page.write(args.experiment, by_task, out, out / "tables", smoke.WARNING if args.smoke else "")
    if experiment_page.is_comparison(args.experiment.stem) and (said := tables.verdict(cells, baseline := rows_of(cells)[0])):
        parts = [said, *(tables.in_short({task: column}, baseline).markdown() for task, column in cells.items())]
        print("\n" + "\n\n".join(parts) + "\n\nIntervals: 95%, seeds and examples random; with one seed the examples alone.")
    print(f"tables and figures: {page.path}" + f"\n{smoke.WARNING}" * args.smoke)


def summary(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a method and setting of the sweep, best first: mean over seeds, interval, and what differs between settings.

    The interval is Student's t over seeds; None for one seed.
    """
    if not results:
        return []
    flat = []
    for result in results:
        flat.append({key: value for key, value in result["settings"].items() if key != "seed"})
    keys = {key for one in flat for key in one}
    varied = sorted(key for key in keys - {"method"} if len({repr(one[key]) for one in flat if key in one}) > 1)
    groups: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    for one, result in zip(flat, results, strict=True):
        groups[json.dumps(one, sort_keys=True)].append((one, result))
    lines = []
    for members in groups.values():
        one = members[0][0]
        scores = [result["score"] for _, result in members]
        lines.append(
            {
                "method": one["method"],
                "settings": {key: one[key] for key in varied if key in one},
                "score": float(np.mean(scores)),
                "interval": student(scores),
                "seeds": [result["settings"]["seed"] for _, result in members],
                "scores": scores,
                "gradient_evaluations": members[0][1]["cost"]["gradient_evaluations"],
            }
        )
    return sorted(lines, key=lambda line: -line["score"])


def grids(runs: Sequence[Run], out: Path) -> dict[str, dict[str, Any]]:
    """What tuning chose for each method.

    Returns:
        For each method `best` (learning rate and varied settings of the highest mean score, and of the lowest loss where scores
        are equal: CoLA's is zero for every majority vote, learning or collapsed; None without a result), its `score`, `at_edge`
        (the numeric settings whose best value is the least or greatest of its grid: a better one may lie outside), and how many
        runs are `finished`, `of` how many, `diverged` among them.
    """
    found = {result_path(run, out): (result["score"], -_loss(result)) for run, result in with_results(runs, out)}
    chosen = {}
    for method in dict.fromkeys(run.method for run in runs):
        own = [run for run in runs if run.method == method]
        grid: dict[str, list[Any]] = defaultdict(list)
        means: list[tuple[tuple[float, float], dict[str, Any]]] = []
        for setting in dict.fromkeys(replace(run, seed=0) for run in own):
            flat = setting.settings()
            for key in flat.keys() - {"seed", "method"}:
                grid[key].append(flat[key])
            seeds = [run for run in own if replace(run, seed=0) == setting]
            pairs = [found[path] for run in seeds if (path := result_path(run, out)) in found]
            if pairs and not any(diverged_path(run, out).exists() for run in seeds):
                score, negative_loss = np.mean(pairs, axis=0)
                means.append(((float(score), float(negative_loss)), flat))
        varied = [key for key in sorted(grid) if len({repr(value) for value in grid[key]}) > 1]
        (best_score, _), settings = max(means, key=lambda pair: pair[0], default=((None, None), None))
        best = None if settings is None else {key: settings[key] for key in sorted({"learning_rate", *varied})}
        chosen[method] = {
            "best": best,
            "score": best_score,
            "at_edge": [
                key
                for key in varied
                if best and all(isinstance(v, int | float) for v in grid[key]) and best[key] in (min(grid[key]), max(grid[key]))
            ],
            "finished": sum(finished(run, out) for run in own),
            "of": len(own),
            "diverged": sum(diverged_path(run, out).exists() for run in own),
        }
    return chosen


def _loss(result: dict[str, Any]) -> float:
    """Of the finished model, on the split that the score is of."""
    return float(result["curve"][-1].get(f"eval_{result['task']['split']}_loss", 0.0))


if __name__ == "__main__":
    gc.freeze()  # every run begins with a collection, which would look through all that the libraries' import made
    status = main()
    if _processes() > 1:
        # While Python 3.11 shuts down it kills threads that ask for its lock; in one of torch's C++ threads that is an abort,
        # now and then, after all the work is done: torchrun would call it a failure. So leave without shutting down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
