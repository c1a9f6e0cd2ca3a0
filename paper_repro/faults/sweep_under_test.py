"""The sweep that faults are done to: three tiny runs by the real command, what they give undisturbed, and what one lost."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from paper_repro import smoke, sweep
from paper_repro.faults.victim import Command, Ended, Victim, on_writes
from paper_repro.record import write_whole
from paper_repro.runs.experiment import Run, load_experiment
from paper_repro.runs.run import read_result
from paper_repro.runs.store import diverged_path, result_path

TASK = "rte"
# A checkpoint every second step. The warm start's noises make its checkpoints hold all that a checkpoint can.
EXPERIMENT = """
model = "{model}"
epochs = 3
evaluations = 6
batch_size = 4
micro_batch = 2
max_length = 24
learning_rate = 1e-2
[methods.lamb]
noise = "none"
[methods.scala]
noise_delay = 0.25
[methods.scala-warm]
noise_start = "warm"
noise_delay = 0.25
[tasks.rte]
"""
_TIMES = ("_seconds", "runtime", "per_second")


@dataclass(frozen=True)
class SweepUnderTest:
    """Three runs, and how they go if nothing happens.

    Attributes:
        experiment: its TOML file.
        model: folder of the tiny encoder.
        data: folder of made-up GLUE files.
        runs: lamb, scala, scala with a warm start.
        results: by file name, what an undisturbed sweep finds, without times.
        seconds: of an undisturbed sweep in a forked process, median.
        one: of its first run alone, median.
        written: paths of the files that Python opens to write in it, in order.
    """

    experiment: Path
    model: Path
    data: Path
    runs: tuple[Run, ...]
    results: dict[str, Any]
    seconds: float
    one: float
    written: tuple[str, ...]

    @classmethod
    def prepared(cls, folder: Path, repeats: int = 3) -> SweepUnderTest:
        """Make model and data, and do the sweep undisturbed.

        Raises:
            RuntimeError: undisturbed sweeps do not end, or do not end alike, so that nothing could be seen.
        """
        experiment = folder / "tiny.toml"
        model = folder / "random-model"
        write_whole(experiment, EXPERIMENT.format(model=model))
        _, data = smoke.prepare(experiment, [TASK], None, None, folder)
        made = cls(experiment, model, Path(data), tuple(load_experiment(experiment, TASK)), {}, 0.0, 0.0, ())
        log = folder / "written"
        log.unlink(missing_ok=True)

        def listed() -> None:
            file = log.open("a", encoding="utf-8")
            on_writes(lambda path: print(path, file=file, flush=True))

        ended, results = [], []
        for number in range(repeats):
            out = folder / f"undisturbed-{number}"
            ended.append(Victim(made.command(out), listed if number == 0 else None).end())
            if ended[-1].status != 0:
                raise RuntimeError(f"an undisturbed sweep failed:\n{ended[-1].said}")
            results.append(made.found(out))
        if any(other != results[0] for other in results):
            raise RuntimeError("undisturbed sweeps differ from each other: nothing could be compared with them")
        one = [Victim(made.command(folder / f"one-{number}", ["lamb"])).end().seconds for number in range(repeats)]
        return cls(
            experiment,
            model,
            made.data,
            made.runs,
            results[0],
            statistics.median(end.seconds for end in ended),
            statistics.median(one),
            tuple(log.read_text(encoding="utf-8").splitlines()),
        )

    def arguments(self, out: Path, methods: Sequence[str] = ()) -> list[str]:
        """Of `python -m paper_repro.sweep`."""
        chosen = ["--methods", *methods] if methods else []
        return [str(self.experiment), "--glue-dir", str(self.data), "--out", str(out), *chosen]

    def command(self, out: Path, methods: Sequence[str] = ()) -> Command:
        """The sweep, in this process."""
        return partial(sweep.main, self.arguments(out, methods))

    def files(self, out: Path) -> dict[str, bytes]:
        """The results and records of divergence that are there, as they are."""
        there = [path(run, out) for run in self.runs for path in (result_path, diverged_path)]
        return {path.name: path.read_bytes() for path in there if path.exists()}

    def found(self, out: Path) -> dict[str, Any]:
        """The results that are there, without times; a ValueError if one is damaged."""
        paths = [path for run in self.runs if (path := result_path(run, out)).exists()]
        return {path.name: without_times(read_result(path)) for path in paths}

    def damaged(self, out: Path) -> list[str]:
        """Results that are there and cannot be read, in words."""
        try:
            self.found(out)
        except ValueError as error:
            return [f"a result that is not whole: {error}"]
        return []

    def lost(self, out: Path, finished: dict[str, bytes], methods: Sequence[str] = ()) -> list[str]:
        """What the sweep has lost in the end, in words; nothing: it is as if nothing had happened.

        Args:
            out: its folder.
            finished: files that were there at some time, see `files`.
            methods: those that were asked for; none: all.
        """
        damaged = self.damaged(out)
        if damaged:
            return damaged
        now, found = self.files(out), self.found(out)
        lost = [f"{name} was finished and is {'changed' if name in now else 'gone'}" for name in finished if
                now.get(name) != finished[name]]  # fmt: skip
        wanted = {run.identity + ".json" for run in self.runs if not methods or run.method in methods}
        lost += [f"{name} is not there" for name in sorted(wanted - found.keys())]
        lost += [f"{name} is not as in a sweep never disturbed" for name in found if found[name] != self.results[name]]
        if left := [path.name for path in out.rglob("checkpoint-*")]:
            lost.append(f"a finished run's checkpoint is left behind: {left[0]}")
        return lost


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    """All of a result that must be the same to the last bit, however often its run was cut off."""
    kept = {key: value for key, value in result.items() if key != "provenance"}
    kept["cost"] = {key: value for key, value in result["cost"].items() if not key.endswith(_TIMES)}
    for name in ("curve", "training_log"):
        kept[name] = [{key: value for key, value in entry.items() if not key.endswith(_TIMES)} for entry in result[name]]
    return json.loads(json.dumps(kept))


def message(ended: Ended, folder: Path) -> str:
    """The line that tells a user what happened: the last that names an error or an interruption, else the last."""
    lines = [line.strip() for line in ended.said.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|interrupted|diverged|damaged|passed over|REJECTED|SIGKILL", line)]
    line = (telling or lines or [""])[-1]
    line = re.sub(r"^\S+\.py:\d+: ", "", line)  # where a warning was raised
    return line.replace(f"{folder}/", "").replace(str(folder), "OUT")
