"""Settings chosen by tuning: what a sweep on held-out training data found best takes the place of "tuned" in an experiment.

    learning_rate = "tuned"                  # the best of the method of the same name, for this model and task
    learning_rate = "tuned lamb"             # the best of the method lamb
    learning_rate = "tuned lamb * 0.5"       # half of it (the square root of a quarter of the batch, say)
    noise_step_size = "tuned scala.noise_radius * 0.5"     # half of another setting's best

    [tasks.mrpc]
    tuned_on = "cola"                        # for this task, what was found best on another
    scala.noise_radius = "tuned"             # of one method on this task

The best settings come from the summaries that `paper_repro.sweep experiments/tuning.toml --summary FOLDER` writes, a file a
model and task. Tuning that is missing or unfinished is an error, so a run never starts from a rate nobody measured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from paper_repro.record import RESULTS
from paper_repro.runs.experiment import Run, load_experiment, read_toml

EXPERIMENTS = RESULTS.with_name("experiments")
TUNING = RESULTS / "tuning"

Best = Callable[[str, str, str, str], float]
"""best(model, task, method, key): the tuned value of a setting"""

_TUNED = re.compile(r"tuned(?: (?P<method>[\w-]+)(?:\.(?P<key>\w+))?)?(?: \* (?P<factor>[\d.e+-]+))?")


def summary_file(folder: Path, experiment: Path, model: str, task: str) -> Path:
    """Where the summary for a model and task lies: MODEL-TASK.json of tuning.toml, MODEL-TASK-X.json of tuning-X.toml."""
    more = experiment.stem.removeprefix("tuning").lstrip("-")
    return folder / f"{'-'.join(part for part in (Path(model).name, task, more) if part)}.json"


def measured(folder: Path = TUNING) -> Best:
    """The best settings of a folder of summaries.

    The function returned raises ValueError, naming the command that is missing, if there is no summary, the method's grid is
    not finished, or the setting was not tuned.
    """

    def best(model: str, task: str, method: str, key: str) -> float:
        name = f"{Path(model).name}-{task}"
        paths = [path for path in (folder / f"{name}.json", *sorted(folder.glob(f"{name}-*.json"))) if path.exists()]
        command = f"python -m paper_repro.sweep {_tuner(model, task, method)} --tasks {task} --summary {folder}"
        for path in paths:
            try:
                grid = json.loads(path.read_text(encoding="utf-8"))["methods"].get(method)
            except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path} is not a sweep's summary ({error!r}); write it again: {command}") from error
            if grid is None:
                continue
            if grid["finished"] < grid["of"]:
                raise ValueError(
                    f"tuning of {method} for {model} on {task} is not finished: "
                    f"{grid['finished']} of {grid['of']} runs in {path}; continue: {command}"
                )
            if key not in (grid["best"] or {}):
                raise ValueError(f"{path}: no best {key} of {method}: it was not in the grid, or every run diverged")
            return grid["best"][key]
        raise ValueError(f"{key} of {method} is to be tuned for {model} on {task}, and {folder} has nothing; first: {command}")

    return best


def _tuner(model: str, task: str, method: str) -> str:
    """The experiment file that tunes a method, as far as the files say."""
    for path in sorted(EXPERIMENTS.glob("tuning*.toml"), key=lambda path: len(path.stem)):  # tuning.toml, then special ones
        content = read_toml(path)
        of_task = content.get("tasks", {}).get(task)
        if of_task is not None and method in content["methods"] and model in (of_task.get("model"), content.get("model")):
            return f"paper_repro/experiments/{path.name}"
    return "a tuning experiment"


def load_tuned(path: str | Path, task: str, best: Best, methods: Collection[str] | None = None, **overrides: Any) -> list[Run]:
    """`paper_repro.runs.experiment.load_experiment`, with every "tuned" replaced by its measured value.

    Args:
        path, task, overrides: as there.
        best: the measured values.
        methods: only these of the file's; None: all.

    Raises:
        ValueError: as there, for a method that the file has not, and for a value that begins with "tuned" but reads as none of
            the forms above.
    """

    def resolve(content: dict[str, Any]) -> dict[str, Any]:
        known = content.get("methods", {})
        if unknown := set(methods or ()) - known.keys():
            raise ValueError(f"{path} has no method {', '.join(sorted(unknown))}; it has {', '.join(known)}")
        content["methods"] = {name: settings for name, settings in known.items() if methods is None or name in methods}
        of_task = content.get("tasks", {}).get(task, {})
        tuned_on = of_task.pop("tuned_on", task)
        for method, own in content["methods"].items():
            settings = own | of_task.pop(method, {})
            content["methods"][method] = settings
            model = overrides.get("model") or settings.get("model", of_task.get("model", content.get("model", "")))
            for key, value in settings.items():
                forms = [_form(v, f"{path}: [methods.{method}] {key}") for v in (value if isinstance(value, list) else [value])]
                new = [
                    _scaled(best(model, tuned_on, form["method"] or method, form["key"] or key), form["factor"])
                    if isinstance(form, re.Match)
                    else form
                    for form in forms
                ]
                settings[key] = new if isinstance(value, list) else new[0]
        return content

    return load_experiment(path, task, resolve, **overrides)


def _form(value: Any, where: str) -> Any:
    """The parts of a "tuned" value; any other value itself."""
    if not isinstance(value, str) or not value.startswith("tuned"):
        return value
    form = _TUNED.fullmatch(value)
    if form is None:
        raise ValueError(f'{where} = {value!r} is none of "tuned", "tuned METHOD", "tuned METHOD.KEY", "... * FACTOR"')
    return form


def _scaled(value: float, factor: str | None) -> float:
    # Six digits: the same rate, and so the same run, whatever the last bit of a product.
    return value if factor is None else float(f"{value * float(factor):.6g}")
