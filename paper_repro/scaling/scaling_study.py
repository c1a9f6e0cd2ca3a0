"""The study of scale: what was measured, what the model makes of it, and what was only assumed, in one record.

Each measurement is a file of its own in the study's folder. One that is there is not made again, so a study that was killed
goes on where it stopped; delete a file to measure anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from paper_repro.analysis.statistics import mean_of
from paper_repro.bench.speed_measures import SHAPES
from paper_repro.record import provenance, read_json, write_json
from paper_repro.scaling import noise, step_times, target_time
from paper_repro.scaling.batch_sweep import FAMILIES, TIMED, Column, runs, sweep
from paper_repro.scaling.hardware import case
from paper_repro.scaling.inputs import Input, Inputs
from paper_repro.scaling.predict import ASSUMED_STEPS, Study

STEPS, TARGET = "steps.json", "sst2.json"
"""Files of measured step times: MiniLM's in 1 and 2 processes; bert-tiny's at the lengths of SST-2."""
LANDSCAPE = Path("landscape") / "landscape.json"
SWEPT = "scala"


def study(
    out: Path,
    results: Path,
    glue_dir: str | None = None,
    *,
    hardware: str = "dgx-2",
    known: Mapping[str, Inputs] | None = None,
    setting: step_times.Setting | None = None,
) -> dict[str, Any]:
    """Measure what is not there yet, and put everything together.

    Args:
        out: folder for the measurements.
        results: folder with glue/, tuning/ and perhaps landscape/.
        glue_dir: official GLUE files, for the lengths of SST-2's sentences; None: no time to the target unless it is there.
        hardware: of `paper_repro.scaling.hardware.MACHINES`, for the predictions.
        known: measured inputs in place of assumed ones, by model.
        setting: of the measurement of steps.

    Returns:
        step_time, follower, sweep, noise, critical, target_time, predictions; each a dict with its `basis` in words, or null if
        it is missing; and provenance.

    Raises:
        ValueError: a file cannot be read.
    """
    torch.set_num_threads(1)
    steps = _steps(out / STEPS, setting or step_times.Setting())
    column = runs(results)
    swept, scales = sweep(column), noise.along_training(results / LANDSCAPE)
    side_by_side = runs(results, [TIMED])
    timed = _timed(out / TARGET, side_by_side, glue_dir)
    record = {
        "step_time": step_time(steps),
        "follower": follower(steps["validation"]),
        "sweep": {"basis": "measured: runs of ablation-batch.toml and speedup.toml; both laws are fits to them"} | swept,
        "noise": None
        if scales is None
        else {"basis": f"measured: {LANDSCAPE}", "runs": scales, "predicted": noise.predicted(scales)},
        "critical": critical(swept, None if scales is None else noise.predicted(scales)),
        "target_time": time_to_target(side_by_side, swept, timed),
        "predictions": predictions(hardware, known or {}, carried_over(swept)),
    }
    sources = {STEPS: steps["provenance"]} | ({} if timed is None else {TARGET: timed["provenance"]})
    return record | {"provenance": provenance(("numpy", "scipy", "torch", "scala-adapt")) | {"measurements": sources}}


def _steps(file: Path, setting: step_times.Setting) -> dict[str, Any]:
    kept = _read(file)
    if kept is not None and kept.get("setting") != json.loads(json.dumps(asdict(setting))):
        raise ValueError(f"{file} was measured with another setting; move it away to measure anew")
    if kept is not None and "provenance" in kept:
        return kept
    return step_times.measure(lambda record: _keep(file, record), setting, kept)


def _timed(file: Path, column: Column, glue_dir: str | None) -> dict[str, Any] | None:
    if (kept := _read(file)) is not None or glue_dir is None:
        return kept
    batches = sorted({cell.batch_size for cell in column.values()})
    return target_time.measure(lambda record: _keep(file, record), glue_dir, batches)


def _keep(file: Path, record: Mapping[str, Any]) -> None:
    write_json(file, record)


def _read(file: Path) -> dict[str, Any] | None:
    return read_json(file, "delete it, and it is measured again") if file.exists() else None


def step_time(steps: Mapping[str, Any]) -> dict[str, Any]:
    """Predicted beside measured steps: encoder, rows (see `step_times.compared`), error by number of devices."""
    rows = steps["validation"]
    (encoder,) = steps["models"]
    errors = []
    for devices in sorted({row["devices"] for row in rows}):
        found = [abs(row["error"]) for row in rows if row["devices"] == devices]
        errors.append({"devices": devices, "median": median(found), "greatest": max(found), "rows": len(found)})
    return {
        "basis": f"modelled from micro-batches, leaders and all-reduce that were timed alone ({STEPS}), beside measured steps "
        "of the trainer in gloo processes of one thread",
        "encoder": encoder,
        "error": errors,
        "rows": rows,
    }


def follower(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the follower's extra pass costs inside a data-parallel step, and whether more processes make it dearer.

    Args:
        rows: measured steps, see `step_times.compared`.

    Returns:
        basis; costs by number of devices (least, median, greatest of ScaLA's step over LAMB's, over the batches); and growth,
        the cost in a step of two processes over that in a step of one at the same global batch and micro-batch (low, typical,
        high: geometric mean and 95% interval over batches, Student's t of logarithms; null if fewer than two have both).
    """
    seconds = {
        (row["devices"], row["method"], row["batch"], row["micro_batch"]): float(row["measured"]["median"]) for row in rows
    }
    cost = {
        (devices, batch, micro): seconds[devices, "scala", batch, micro] / alone
        for (devices, method, batch, micro), alone in seconds.items()
        if method == "lamb" and (devices, "scala", batch, micro) in seconds
    }
    costs = []
    for devices in sorted({key[0] for key in cost}):
        own = [value for key, value in cost.items() if key[0] == devices]
        costs.append({"devices": devices, "least": min(own), "median": median(own), "greatest": max(own)})
    ratios = np.log([cost[2, *rest] / value for (devices, *rest), value in cost.items() if devices == 1 and (2, *rest) in cost])
    growth = None
    if len(ratios) > 1:
        found = mean_of(ratios)
        low, typical, high = np.exp([found.interval[0], found.mean, found.interval[1]])
        growth = {"low": float(low), "typical": float(typical), "high": float(high), "batches": len(ratios)}
    return {"basis": "measured: the trainer's steps in 1 and 2 gloo processes on one machine", "costs": costs, "growth": growth}


def critical(swept: Mapping[str, Any], predicted: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """The batch scale of each law by the sweep and by the gradient's noise.

    Returns:
        A dict a target, family and law: target, family, law, fitted (low, scale, high, log_likelihood; null: too few batch
        sizes), predicted (low, typical, high; null: not measured) by the gradients of the method `of`, and agree (whether the
        two intervals meet; null if one is missing). A null end is infinite.
    """
    rows = []
    for target in swept["targets"]:
        for found in target["families"]:
            own = [row for row in predicted or [] if noise.family_of(row["method"]) == found["family"]]
            for kind, law in noise.KINDS.items():
                fitted = found["fits"][law]
                ends = fitted and {key: fitted[key] for key in ("low", "scale", "high", "log_likelihood")}
                row = {"target": target["name"], "family": found["family"], "law": law, "fitted": ends}
                one: Mapping[str, Any] | None
                for one in own or [None]:  # type: ignore[list-item]
                    by_noise = one and one[kind]
                    agree = _meet(ends, by_noise) if ends and by_noise else None
                    rows.append(row | {"predicted": by_noise, "of": one and one["method"], "agree": agree})
    return rows


def _meet(one: Mapping[str, float | None], other: Mapping[str, float | None]) -> bool:
    def ends(given: Mapping[str, float | None]) -> list[float]:
        return [np.inf if (end := given[key]) is None else end for key in ("low", "high")]

    (low, high), (least, greatest) = ends(one), ends(other)
    return low <= greatest and least <= high


def time_to_target(column: Column, swept: Mapping[str, Any], timed: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Predicted beside measured seconds to the baseline's score; None if one of the two is missing."""
    if timed is None or not swept["targets"]:
        return None
    target = swept["targets"][0]
    rows = target_time.compared(column, target["score"], timed)
    errors = [abs(row["error"]) for row in rows]
    return {
        "basis": f"modelled from {timed['encoder']}'s micro-batches and leaders ({TARGET}), times the runs' own measured "
        "steps; beside the runs' seconds",
        "target": target["name"],
        "lacks": list(target_time.LACKS),
        "error": {"median": median(errors), "greatest": max(errors)} if errors else None,
        "rows": rows,
    }


def carried_over(swept: Mapping[str, Any]) -> Input | None:
    """B_crit of ScaLA's runs, as an input of the predictions; None if no target was reached at enough batch sizes.

    Below one sample, and beyond all there are, nothing changes: so the range ends there.
    """
    for target in swept["targets"]:
        found = target["families"][FAMILIES.index(SWEPT)]["fits"]["critical"]
        if found is not None:
            most = swept["examples"]
            low, middle, high = (
                min(max(most if found[key] is None else found[key], 1.0), most) for key in ("low", "scale", "high")
            )
            source = f"B_crit of bert-tiny's ScaLA runs on SST-2, to {target['name']}: that it holds for this model is assumed"
            return Input(low, middle, high, "samples", "carried over", source)
    return None


def predictions(hardware: str, known: Mapping[str, Inputs], measured: Input | None) -> list[dict[str, Any]]:
    """Both large models over devices, with B_crit as assumed and, where there is one, as measured on the small one."""
    choices = [ASSUMED_STEPS] + ([] if measured is None else [{**ASSUMED_STEPS, "critical": measured}])
    found = []
    for steps in choices:
        for model in SHAPES:
            document = Study(case(model, hardware, known.get(model)), steps).document()
            kinds = [given["basis"] for given in document["inputs"].values()]
            counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
            found.append({"basis": f"modelled from {len(kinds)} inputs: {counts}"} | document)
    return found
