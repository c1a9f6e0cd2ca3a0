"""The study of scale as a short page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paper_repro.analysis.table import Table
from paper_repro.scaling.predict import CLAIMED_BATCH, READINGS
from paper_repro.scaling.prediction_figures import INPUTS

FIGURES = {
    "noise": "The gradient's noise scales along training, beside the batch scales of the sweep",
    "sweep": "Steps to the target against the batch size, with both laws",
    "compared": "Predicted against measured times",
    "speedup": "Speed-up over devices",
    "tornado": "Which input decides",
}
_READINGS = dict(zip(READINGS, ("one device", "all these devices", "the fastest number of them"), strict=True))
_LAWS = {"critical": "B_crit", "least": "b_min"}


def page(record: Mapping[str, Any]) -> str:
    """All of it.

    Args:
        record: see `paper_repro.scaling.scaling_study.study`.
    """
    parts = [
        "# How far it scales",
        "Every number is measured, or modelled from measurements, or assumed, and says which. Intervals are 95%. "
        "Written by `make scaling`; the record is `scaling.json`.",
        *_steps(record["step_time"]),
        *_follower(record["follower"]),
        *_critical(record),
        *_target_time(record["target_time"]),
        *_predictions(record["predictions"]),
    ]
    return "\n\n".join(parts) + "\n"


def _steps(found: Mapping[str, Any]) -> list[str]:
    head = ("processes", "steps compared", "error, median", "greatest")
    rows = [
        (str(e["devices"]), str(e["rows"]), f"{100 * e['median']:.1f}%", f"{100 * e['greatest']:.1f}%") for e in found["error"]
    ]
    return [
        "## The time of a step: model against measurement",
        f"{found['encoder']}. {_sentence(found['basis'])}",
        Table(head, rows).markdown(aligned=False),
        _figure("compared"),
    ]


def _follower(found: Mapping[str, Any]) -> list[str]:
    said = [
        f"In {c['devices']} {'process' if c['devices'] == 1 else 'processes'} a step of ScaLA with one ascent takes "
        f"{c['median']:.2f} times LAMB's [{c['least']:.2f}, {c['greatest']:.2f} over batches]."
        for c in found["costs"]
    ]
    if growth := found["growth"]:
        said.append(
            f"From one process to two that factor changes by {_spread(growth, 'typical', 2)}: the ascent adds no message."
        )
    return ["## What the follower's extra pass costs in a data-parallel step", f"{_sentence(found['basis'])} {' '.join(said)}"]


def _critical(record: Mapping[str, Any]) -> list[str]:
    swept = record["sweep"]
    parts = ["## The critical batch", f"bert-tiny on SST-2. {_sentence(swept['basis'])}"]
    if not swept["targets"]:
        return [*parts, "No run of the baseline: make studies, then make results."]
    noise = record["noise"]
    parts.append(
        "The noise scales are not measured: make landscape."
        if noise is None
        else f"{_sentence(noise['basis'])} Least, median and greatest along training, over seeds, without the first step. "
        "The simple noise scale predicts B_crit, the layer-wise one b_min."
    )
    parts.append(
        "B_crit belongs to S(B) = S_min (1 + B_crit / B), b_min to the theory's T(b) = T_inf / (1 - sqrt(b_min / b))^2, which "
        "bounds steps to a small gradient, not to a score: only its shape is held against the runs. Both laws have two "
        "constants, so the greater log-likelihood fits better."
    )
    head = ("target", "method", "", "by the sweep", "log-likelihood", "by the gradient's noise", "")
    parts.append(Table(head, [_critical_row(row) for row in record["critical"]]).markdown(aligned=False))
    if noise is not None:
        parts += [line for row in noise["predicted"] if (line := _layers(row))]
    parts.append(_sweep_table(swept["targets"][0]))
    parts.append(
        "What one epoch does to the law: the learning rate falls to zero where the data end, so a run meets a high target late "
        "in its schedule whatever its batch; steps then fall like 1/B because the schedule does, which the fit reads as a "
        "large B_crit. A batch that would need more than the epoch does not get there; it counts as later than its end. "
        "Where the share of the epoch above hardly depends on the batch, the schedule speaks, and B_crit is an upper estimate; "
        "the lower target is met earlier in the schedule and suffers less."
    )
    parts += [_figure("noise"), _figure("sweep")]
    return parts


def _critical_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    fitted, predicted = row["fitted"], row["predicted"]
    agree = {None: "", True: "intervals meet", False: "intervals apart"}[row["agree"]]
    by_sweep = _spread(fitted, "scale", 0) if fitted else "reached at too few batch sizes"
    by_noise = f"{_spread(predicted, 'typical', 0)} ({row['of']})" if predicted else "not measured"
    likely = f"{fitted['log_likelihood']:.1f}" if fitted else ""
    return row["target"], row["family"], _LAWS[row["law"]], by_sweep, likely, by_noise, agree


def _layers(row: Mapping[str, Any]) -> str:
    found = {name: scale for name, scale in row["layers"].items() if scale is not None}
    if not found:
        return ""
    least, greatest = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    hidden = len(row["layers"]) - len(found)
    said = f"; in {hidden} of {len(row['layers'])} layers no gradient can be told from the noise" if hidden else ""
    ends = f"from {_number(found[least], 0)} ({least}) to {_number(found[greatest], 0)} ({greatest})"
    return f"Layer by layer, {row['method']}: {ends}{said}."


def _sweep_table(target: Mapping[str, Any]) -> str:
    head = ("method", "batch", f"runs that reach {100 * target['score']:.1f}", "steps, median", "samples", "share of the epoch")
    rows = []
    for family in target["families"]:
        for at in family["batches"]:
            ends = (
                (f"{at['steps']:,.0f}", f"{at['examples']:,.0f}", f"{at['share']:.0%}")
                if at["steps"] is not None
                else ("-",) * 3
            )
            rows.append((family["family"], f"{at['batch']:,}", f"{at['reached']} of {at['runs']}", *ends))
    return Table(head, rows).markdown(aligned=False)


def _target_time(found: Mapping[str, Any] | None) -> list[str]:
    parts = ["## The time to the target: model against measurement"]
    if found is None:
        return [*parts, "Not compared: run make scaling with GLUE_DIR, and with the sweep's runs among the results."]
    head = ("method", "runs", "steps", "tokens", "measured, s", "predicted, s", "error", "if unsorted, s")
    rows = [
        (
            row["method"],
            f"{row['reached']} of {row['runs']}",
            f"{row['steps']:,.0f}",
            str(row["length"]),
            f"{row['measured']['median']:.0f}",
            f"{row['predicted']:.0f} [{row['interval']['low']:.0f}, {row['interval']['high']:.0f}]",
            f"{100 * row['error']:+.0f}%",
            f"{row['unsorted']:.0f}",
        )
        for row in found["rows"]
    ]
    error = found["error"]
    said = f" Error: median {100 * error['median']:.0f}%, greatest {100 * error['greatest']:.0f}%." if error else ""
    return [
        *parts,
        f"To {found['target']}. {_sentence(found['basis'])}{said} The runs have, and the model lacks: "
        f"{'; '.join(found['lacks'])}. Sorting by length is in the model as the mean padded length; the last column is "
        "without it.",
        Table(head, rows).markdown(aligned=False),
    ]


def _predictions(studies: Sequence[Mapping[str, Any]]) -> list[str]:
    head = ["claimed", "over AdamW at 32 on"]
    head += [f"{study['model']}, B_crit {study['inputs']['critical']['basis']}" for study in studies]
    together = list(zip(*(study["conditions"] for study in studies), strict=True))
    rows = [
        (f"{first['claimed']:g}x, {first['devices']} devices", _READINGS[first["reading"]], *map(_condition, (first, *others)))
        for first, *others in together
    ]
    lines = [f"- {study['model']}, {study['hardware']}: {study['basis']}. {_decides(study)}." for study in studies]
    critical = dict.fromkeys(_critical_source(study["inputs"]["critical"]) for study in studies)
    return [
        "## 1 to 1,024 devices: modelled, not run",
        "\n".join([*lines, *(f"- B_crit {said}" for said in critical)]),
        f"Speed-up of ScaLA at batch {CLAIMED_BATCH:,}: median and 95% of the draws of the inputs, and the share of the draws "
        "that reach what is claimed. Bold: the upper end reaches it, so it is plausible under these inputs.",
        Table(head, rows).markdown(aligned=False),
        "Under which conditions, with the B_crit that is needed where all else is typical:",
        "\n".join(_needs(claimed, studies) for claimed in dict.fromkeys(found[0]["claimed"] for found in together)),
        _figure("speedup"),
        _figure("tornado"),
    ]


def _critical_source(given: Mapping[str, Any]) -> str:
    return f"{given['basis']}: {_spread(given, 'typical', 0)} samples. {given['source']}."


def _condition(row: Mapping[str, Any]) -> str:
    said = _spread(row["speedup"], "median", 1)
    return f"{f'**{said}**' if _plausible(row) else said}; {row['probability']:.0%}"


def _plausible(row: Mapping[str, Any]) -> bool:
    """Whether the interval's upper end gets there: about one draw in forty."""
    return row["speedup"]["high"] >= row["claimed"]


def _needs(claimed: float, studies: Sequence[Mapping[str, Any]]) -> str:
    """Under which conditions a claim is plausible: by reading of the baseline's hardware, with the least B_crit by model."""
    said = []
    for reading, words in _READINGS.items():
        keys = (claimed, reading)
        rows = [(s["model"], row) for s in studies for row in s["conditions"] if (row["claimed"], row["reading"]) == keys]
        needed = {model: row["needed_critical"] for model, row in rows}  # the same whatever B_crit is taken for
        known = [f"at least {least:,.0f} for {model}" for model, least in needed.items() if least is not None]
        known += [f"none is enough for {model}" for model, least in needed.items() if least is None]
        least = "no B_crit is enough" if not any(needed.values()) else f"B_crit {', '.join(known)}"
        said.append(f"over {words} plausible in {sum(_plausible(row) for _, row in rows)} of {len(rows)} predictions ({least})")
    return f"- {claimed:g}x: {'; '.join(said)}."


def _decides(study: Mapping[str, Any]) -> str:
    """Which inputs come first, and for which share of the variance."""
    shares: dict[str, list[float]] = {}
    for row in study["conditions"]:
        for bar in row["decides"][:1]:
            shares.setdefault(bar["name"], []).append(bar["share"])
    said = [f"{INPUTS[name]} ({min(found):.0%} to {max(found):.0%} of the variance)" for name, found in shares.items()]
    return f"What decides: {', else '.join(said)}"


def _spread(ends: Mapping[str, float | None], middle: str, digits: int) -> str:
    return f"{_number(ends[middle], digits)} [{_number(ends['low'], digits)}, {_number(ends['high'], digits)}]"


def _number(value: float | None, digits: int) -> str:
    return "infinite" if value is None else f"{value:,.{digits}f}"


def _figure(name: str) -> str:
    return f"![{FIGURES[name]}](scaling-{name}.svg)"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
