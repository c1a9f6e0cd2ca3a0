"""All runs of an experiment file, within a budget of time; each finished run is a file, and started again it skips those.

    python -m paper_repro.sweep paper_repro/experiments/defaults-noise.toml --task sst2 --glue-dir /data/glue --budget-min 60

Prints, and writes to `--summary`, one line a setting: the mean score over seeds with its 95% interval (Student's t over seeds;
none for one seed).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from convergence.record import write_whole
from paper_repro.experiment import Run, load_experiment
from paper_repro.run import execute, read_result, result_file
from scala.adapt import quiet
from scala.game import NonFiniteLoss


def main(arguments: list[str] | None = None) -> int:
    """Run the sweep; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m paper_repro.sweep", description=__doc__)
    parser.add_argument("experiment", type=Path, help="TOML file, see paper_repro/experiment.py")
    parser.add_argument("--task", required=True)
    parser.add_argument("--glue-dir", help="folder with the official GLUE files")
    parser.add_argument("--model")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--budget-min", type=float, default=float("inf"), help="start no run after so many minutes")
    parser.add_argument("--out", type=Path, default=Path("runs/sweeps"))
    parser.add_argument("--summary", type=Path, help="JSON file of the summary")
    args = parser.parse_args(arguments)
    quiet()
    began = time.monotonic()
    try:
        runs = load_experiment(args.experiment, args.task, model=args.model, seeds=args.seeds)
        folder = args.out / args.experiment.stem / args.task
        for number, run in enumerate(runs, 1):
            minutes = (time.monotonic() - began) / 60
            if minutes > args.budget_min:
                print(f"budget of {args.budget_min:g} min spent; the same command continues with run {number} of {len(runs)}")
                break
            fresh = not result_file(run, folder).exists()
            _try(run, folder, args.glue_dir, f"[{number}/{len(runs)}, {minutes:.0f} min] " if fresh else None)
        results = [read_result(path) for run in runs if (path := result_file(run, folder)).exists()]
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues here", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    lines = summary(results)
    for line in lines:
        spread = "one seed" if line["interval"] is None else "[{:.4f}, {:.4f}]".format(*line["interval"])
        print(f"{line['score']:.4f} {spread}  {line['method']:14s} {line['settings']}  seeds {line['seeds']}")
    if args.summary:
        content = {
            "experiment": args.experiment.name,
            "task": args.task,
            "model": runs[0].model,
            "held_out": runs[0].held_out,
            "metric": results[0]["task"]["metric"] if results else None,
            "source": results[0]["task"]["source"] if results else None,
            "lines": lines,
            "provenance": results[-1]["provenance"] if results else None,
        }
        write_whole(args.summary, json.dumps(content, indent=1) + "\n")
    return 0


def _try(run: Run, folder: Path, glue_dir: str | None, title: str | None) -> None:
    try:
        result = execute(run, folder, glue_dir)
    except NonFiniteLoss as error:
        print(f"{title or ''}{run.identity}: diverged: {error}", flush=True)
        return
    if title:
        print(f"{title}{run.identity}: {result['score']:.4f}, {result['cost']['train_seconds']:.0f} s", flush=True)


def summary(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a method and setting of the sweep, best first: mean over seeds, interval, and what differs between settings."""
    if not results:
        return []
    flat = []
    for result in results:
        settings = dict(result["settings"])
        options = settings.pop("options")
        del settings["seed"]
        flat.append(settings | options)
    keys = {key for one in flat for key in one}
    varied = sorted(key for key in keys - {"method"} if len({repr(one.get(key)) for one in flat}) > 1)
    groups: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    for one, result in zip(flat, results, strict=True):
        groups[json.dumps(one, sort_keys=True)].append((one, result))
    lines = []
    for members in groups.values():
        one = members[0][0]
        scores = [result["score"] for _, result in members]
        mean = float(np.mean(scores))
        interval = None
        if len(scores) > 1:
            half = float(stats.t.ppf(0.975, len(scores) - 1) * stats.sem(scores))
            interval = [mean - half, mean + half]
        lines.append(
            {
                "method": one["method"],
                "settings": {key: one[key] for key in varied if key in one},
                "score": mean,
                "interval": interval,
                "seeds": [result["settings"]["seed"] for _, result in members],
                "scores": scores,
                "gradient_evaluations": members[0][1]["cost"]["gradient_evaluations"],
            }
        )
    return sorted(lines, key=lambda line: -line["score"])


if __name__ == "__main__":
    sys.exit(main())
