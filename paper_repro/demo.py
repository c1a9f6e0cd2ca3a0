"""The demonstration: does a large batch reach the small batch's score? `make demo`, or `python -m paper_repro.demo`.

It can be interrupted at any point and picks up where it stopped when started again with the same settings.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from paper_repro.comparison import compare, draw, table, verdict
from paper_repro.experiment import load_experiment
from paper_repro.glue import GLUE_TASKS
from paper_repro.run import execute, result_file
from paper_repro.tasks import EMBEDDED
from scala.adapt import quiet
from scala.game import NonFiniteLoss

EXPERIMENT = Path(__file__).parent / "experiments" / "demo.toml"
BASELINE = "adamw-32"


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstration; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m paper_repro.demo", description=__doc__)
    parser.add_argument("--task", default=EMBEDDED, help=f"{EMBEDDED} (default), or with --glue-dir {', '.join(GLUE_TASKS)}")
    parser.add_argument("--glue-dir", help="folder with the official GLUE files; without it GLUE tasks come from the hub")
    parser.add_argument("--model", help="minilm-l6 (default), bert-tiny, mpnet-base, a local folder, or a hub name")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds to run (default: those of the experiment file)")
    parser.add_argument("--train-examples", type=int, help="train on a fixed random subset of this size; 0: all")
    parser.add_argument("--epochs", type=int, help="passes over the training set")
    parser.add_argument("--experiment", type=Path, default=EXPERIMENT, help="the TOML file with the methods' settings")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of results (default: runs/demo)")
    args = parser.parse_args(arguments)
    quiet()
    try:
        return _demo(args)
    except KeyboardInterrupt:
        print("\ninterrupted; nothing finished is lost: the same command continues here", file=sys.stderr)
        return 130
    except (ValueError, OSError, NonFiniteLoss) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1


def _demo(args: argparse.Namespace) -> int:
    overrides = {"model": args.model, "seeds": args.seeds, "train_examples": args.train_examples, "epochs": args.epochs}
    runs = load_experiment(args.experiment, args.task, **overrides)
    folder = args.out / args.task
    done = sum(result_file(run, folder).exists() for run in runs)
    print(f"{args.task}: {runs[0].model}, {len(runs)} runs" + (f", {done} already done" if done else ""), flush=True)
    results = []
    for number, run in enumerate(runs, 1):
        title = f"[{number}/{len(runs)}] {run.method}, batch {run.batch_size}, seed {run.seed}"
        with tqdm(desc=title, unit="step", leave=False, mininterval=0.5 if sys.stderr.isatty() else 20) as bar:
            result = execute(run, folder, args.glue_dir, lambda *state, bar=bar: _show(bar, *state))
        results.append(result)
        print(f"{title}: {result['task']['metric']} {result['score']:.3f}, {result['cost']['train_seconds']:.0f} s", flush=True)
    rows = compare(results, BASELINE)
    metric, split = results[0]["task"]["metric"], results[0]["task"]["split"]
    seeds = "seed" + "s" * (len(rows[0].seeds) > 1) + " " + ", ".join(map(str, rows[0].seeds))
    examples = f"{results[0]['cost']['train_examples']:,} training and {len(results[0]['labels']):,} {split} examples"
    report = f"{verdict(rows)}\n\n{args.task}: {metric} on {examples}, {runs[0].model}, {seeds}\n\n{table(rows, metric)}\n"
    report += "\nIntervals: 95%, bootstrap over evaluation examples and seeds."
    if len(rows[0].seeds) == 1:
        report += ' One seed: the spread between seeds is not in them; SEEDS="0 1 2" gives it.'
    picture, page = folder / "demo.png", folder / "demo.md"
    draw(results, rows, picture, f"{args.task}: {runs[0].model}, {examples}")
    page.write_text(report + "\n", encoding="utf-8")
    print(f"\n{report}\n\nresults: {folder}/*.json   picture: {picture}", flush=True)
    return 0


def _show(bar: tqdm, step: int, steps: int, seconds: float, score: float | None) -> None:
    bar.total = steps
    bar.set_postfix({} if score is None else {"score": f"{score:.3f}"}, refresh=False)
    bar.update(step - bar.n)


if __name__ == "__main__":
    sys.exit(main())
