"""What a result was made from, against what is at hand now: it is good only for that data and those weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paper_repro.data.encoders import known_weights
from paper_repro.data.tasks import source_of


def refuse_other_origin(path: Path, result: dict[str, Any], glue_dir: str | None = None) -> None:
    """Refuse a finished result whose data or weights are not those that a run would take now.

    What is not at hand is not compared: the hub's data, an encoder that would have to be fetched first, a folder without the
    task's files.

    Args:
        path: of the result's file, for the message.
        result: as `paper_repro.runs.run.read_result` gives it.
        glue_dir: folder of the official GLUE files; None: the hub.

    Raises:
        ValueError: the result was made from something else; it says what to do.
    """
    task, model = result["settings"]["task"], result["settings"]["model"]
    try:
        source = source_of(task, glue_dir)
    except FileNotFoundError:
        source = {}
    now = _flat(source) | {f"the weights of {model}": known_weights(model)}
    then = _flat(result["task"]["source"]) | {f"the weights of {model}": result["model"].get("weights_sha256")}
    for name in now.keys() & then.keys():
        if None not in (now[name], then[name]) and now[name] != then[name]:
            raise ValueError(
                f"{path} was made from other data or weights: {name} was {str(then[name])[:12]}, and is {str(now[name])[:12]}; "
                "delete that file and its run is done again, or point GLUE_DIR (--glue-dir) or the model at the old ones"
            )


def same_examples(results: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The labels of the examples that all these results were scored on, in their order, [examples].

    Args:
        results: at least one, to be compared or averaged example by example.

    Raises:
        ValueError: two of them were scored on other examples, or on the same in another order: their split, metric, labels or
            the hashes of their data differ.
    """
    first = _examples(results[0])
    for other in results[1:]:
        theirs = _examples(other)
        for what in first.keys() & theirs.keys():
            if first[what] != theirs[what]:
                names = (f"{one['settings']['method']}, seed {one['settings']['seed']}" for one in (results[0], other))
                raise ValueError(
                    f"{' and '.join(names)} were not scored on the same examples: {what} differ; do one of them again"
                )
    return np.asarray(results[0]["labels"], dtype=float)


def _examples(result: Mapping[str, Any]) -> dict[str, Any]:
    task = result["task"]
    known = {f"the task's {key}s": task[key] for key in ("name", "split", "metric")}
    hashes = {f"the hashes of {name}": value for name, value in _flat(task["source"]).items()}
    return known | hashes | {"the labels": result["labels"]}


def _flat(source: dict[str, Any]) -> dict[str, Any]:
    return source.get("glue_files_sha256", source)
