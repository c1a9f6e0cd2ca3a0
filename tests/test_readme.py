"""The numbers that README and docs/ show are those of the committed results.

Tables between `<!-- made: NAME -->` and `<!-- end -->` are made from the result files; a test finds them out of date, and
`python -m tests.test_readme` writes them anew. What stands in sentences and other tables is compared number by number.
"""

import dataclasses
import json
import math
import re
import sys
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from convergence.record import write_whole
from paper_repro import leaders, onset
from paper_repro.analysis import tables
from paper_repro.analysis.cells import differences, gather, of_cell, planned
from paper_repro.analysis.claims import CLAIMS, findings, report
from paper_repro.analysis.experiment_figures import draw_differences, draw_speedup
from paper_repro.analysis.statistics import holm
from paper_repro.analysis.table import Table
from paper_repro.landscape import landscape_page as landscape
from paper_repro.runs.experiment import load_experiment
from paper_repro.runs.options import Options
from paper_repro.runs.tuning import EXPERIMENTS
from paper_repro.scaling import scaling_page as scaling
from scala import ScalaConfig
from scala.trainer import RATES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "paper_repro" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MADE = re.compile(r"(<!-- made: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def section(title, page):
    return text_of(page).partition(f"## {title}\n")[2].partition("\n## ")[0]


def on_one_line(text):
    return " ".join(text.split())


def what_was_run(table):
    """A table without the rows and columns of what was not run."""
    head, rows = table
    nothing = {tables.NOT_RUN, tables.NOT_PLANNED, "not all run"}
    rows = [row for row in rows if not set(row[1:]) - set(row[1:2] * (head[1] == "batch")) <= nothing]
    columns = [i for i in range(len(head)) if i == 0 or not {row[i] for row in rows} <= nothing]
    return Table([head[i] for i in columns], [[row[i] for i in columns] for row in rows])


def demo():
    """The demonstration's verdict and table."""
    cells = demo_cells()
    return f"{tables.verdict(cells, 'adamw-32')}\n\n{tables.in_short(cells, 'adamw-32').markdown()}"


def demo_cells():
    return gather({"acceptability": load_experiment(EXPERIMENTS / "demo.toml", "acceptability")}, RESULTS / "demo")


@cache
def main_cells():
    return gather(planned(EXPERIMENTS / "main.toml"), RESULTS / "glue")


def claims():
    """Every claim with its tests, without the page's title."""
    return report().partition("\n\n")[2].strip()


def claims_in_short():
    """A row a claim, with how many of its tests came out how."""
    found = findings()
    rows = []
    for claim in tomllib.loads(CLAIMS.read_text(encoding="utf-8"))["claims"]:
        counts = Counter(finding.status for finding in found if finding.claim == claim["id"])
        said = [f"{status} {count} test{'s' * (count > 1)}" if status.endswith("by") else f"{status}: {count}"
                for status, count in counts.items()]  # fmt: skip
        rows.append([claim["id"], claim["text"], ", ".join(said)])
    return Table(["", "the paper's claim", "here"], rows).markdown()


def study(name, page):
    """A study's page without its title; its figures are where the results are."""
    record = json.loads((RESULTS / name / f"{name}.json").read_text(encoding="utf-8"))
    return page(record).partition("\n")[2].strip().replace(f"]({name}-", f"](../paper_repro/results/{name}/{name}-")


DIFFERENCES = ROOT / "docs" / "main-differences.svg"


def against(reference):
    return what_was_run(tables.differences_table(main_cells(), reference)).markdown()


def numbers_of_the_figure():
    """What the figure of the main comparison shows; it says so itself, to those who do not look and to its test."""
    return "\n\n".join(against(reference) for reference in ("adamw-32", "lamb"))


def at_rates(task):
    """What the study of the learning rate has of a task, name -> cell."""
    return gather({task: planned(EXPERIMENTS / "sensitivity.toml")[task]}, RESULTS / "glue")[task]


def by_rate():
    """SST-2's scores at multiples of the tuned rates, (method, multiple) -> cell."""
    column = at_rates("sst2")
    found = {}
    for method in ("adamw-large", "lamb", "scala"):
        cells = sorted((c for c in column.values() if c.method == method), key=lambda cell: cell.settings["learning_rate"])
        tuned = cells[2].settings["learning_rate"]
        found |= {(method, float(f"{cell.settings['learning_rate'] / tuned:.3g}")): cell for cell in cells}
    return found


def sensitivity():
    cells = by_rate()
    multiples = sorted({multiple for _, multiple in cells})
    rows = [
        [method, *(shown(of_cell(cells[method, multiple]), sign="") for multiple in multiples)]
        for method in ("adamw-large", "lamb", "scala")
    ]
    paired = [shown(of_cell(cells["scala", multiple], cells["lamb", multiple])) for multiple in multiples]
    head = ["times the tuned rate", *(f"{multiple:g}" for multiple in multiples)]
    return Table(head, [*rows, ["scala against lamb", *paired]]).markdown()


MAKERS = {
    "leaders": leaders.page,
    "sensitivity": sensitivity,
    "landscape": lambda: study("landscape", landscape.page),
    "onset": lambda: study("onset", onset.page),
    "scaling": lambda: study("scaling", scaling.page),
    "demo": demo,
    "claims": claims,
    "claims in short": claims_in_short,
    "main scores": lambda: what_was_run(tables.scores_table(main_cells())).markdown(),
    "main against lamb": lambda: against("lamb"),
    "main against adamw-32": lambda: against("adamw-32"),
}


def made_anew(text):
    return MADE.sub(lambda match: f"{match[1]}\n{MAKERS[match[2]]()}\n\n{match[3]}", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_that_are_made_are_up_to_date(page):
    text = page.read_text(encoding="utf-8")
    assert text.count("<!-- made: ") == len(MADE.findall(text))
    assert text == made_anew(text), f"out of date; write it anew: {Path(sys.executable).name} -m tests.test_readme"


def test_every_table_that_can_be_made_is_shown():
    assert {name for page in PAGES for _, name, _ in MADE.findall(page.read_text(encoding="utf-8"))} == set(MAKERS)


def test_the_figure_of_the_main_comparison_is_up_to_date():
    said = ElementTree.parse(DIFFERENCES).find(".//{http://purl.org/dc/elements/1.1/}description").text
    assert said == numbers_of_the_figure(), f"out of date; draw it anew: {Path(sys.executable).name} -m tests.test_readme"
    assert f"({DIFFERENCES.name})" in section("GLUE: the main comparison", "docs/results.md")


def test_the_theory_table_holds_the_committed_numbers():
    theory = json.loads((RESULTS / "theory/theory.json").read_text(encoding="utf-8"))
    reports = {report["title"]: report for report in theory["theorems"]}
    page = text_of("docs/theory.md")
    rows = [row.strip("| ").split(" | ") for row in page.splitlines() if row.strip("| ").split(" | ")[0] in reports]
    assert len(rows) > 10
    for title, *_, numbers in rows:
        tightness = reports[title]["tightness"]
        assert numbers == ("{:.3g}, {:.3g}".format(*tightness) if tightness else "-"), title
    for text in (page, text_of("README.md")):
        assert f"{theory['instances']:,} random instances" in text
        assert f"{len(theory['theorems'])} theorems" in text
    assert f"{theory['tampered']['planted']} certificates with one number changed, {len(theory['faults'])} wrong lines" in page
    assert theory["failures"] == []
    assert all(report["verified"] for report in reports.values())


def test_the_tuning_of_minilm_is_the_committed_one():
    tuned = json.loads((RESULTS / "tuning/minilm-l6-cola-minilm.json").read_text(encoding="utf-8"))
    best = {method: f"{grid['score']:.3f}"[1:] for method, grid in tuned["methods"].items()}
    text = on_one_line(section("GLUE: the main comparison", "docs/results.md"))
    assert f"at batch 32 {best['adamw-32']}, AdamW at 512 {best['adamw-large']}, LAMB at 512 {best['lamb']}" in text
    radii = {line["settings"]["noise_radius"]: line["score"] for line in tuned["lines"] if line["method"] == "scala"}
    assert f"{best['scala']} at radius 0.003, and 0" in text
    assert radii == {0.003: tuned["methods"]["scala"]["score"], 0.01: 0.0, 0.03: 0.0}
    assert {grid["finished"] for grid in tuned["methods"].values()} == {3}
    rivals = json.loads((RESULTS / "tuning/minilm-l6-cola-rivals.json").read_text(encoding="utf-8"))
    small, middle, large = (line["score"] for line in sorted(rivals["lines"], key=lambda line: line["settings"]["sam_rho"]))
    assert f"its rho (`tuning-rivals.toml`): {points(small)} at 0.005, {points(middle)} at 0.015, and {large:g} at its" in text
    assert [grid["at_edge"] for grid in (tuned["methods"]["scala"], rivals["methods"]["sam"])] == [
        ["noise_radius"],
        ["sam_rho"],
    ]
    assert "Both best values are the least of their three" in text
    assert (rivals["methods"]["sam"]["best"]["sam_rho"], rivals["methods"]["sam"]["finished"]) == (0.005, 3)


def shown(found, sign="+"):
    """A difference in points with its interval, or a score (without signs)."""
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in (found.mean, *found.interval))
    return f"{mean} [{low}, {high}]"


def within_noise(found):
    """Whether a difference's interval holds zero."""
    low, high = found.interval
    return low < 0 < high


def corrected_p(cells, reference):
    """The p-values of a table of differences, by method and task."""
    header, rows = tables.differences_table(cells, reference)
    return {
        (row[0], header[i].split()[0]): float(cell.rpartition("=")[2])
        for row in rows
        for i, cell in enumerate(row)
        if "p=" in cell
    }


def test_what_is_said_of_the_leaders_is_what_was_measured():
    found = {seeds["task"]: (seeds, grid) for seeds, grid in leaders.summaries()}
    assert found.keys() == {"acceptability", "sst2"}
    seeds, grid = found["acceptability"]
    text = on_one_line(section("The leader", "docs/results.md"))
    lines = {line["method"]: line for line in seeds["lines"]}
    assert all(line["seeds"] == [0, 1, 2] for line in lines.values())
    best = lines.pop("orthogonal")
    ahead = {method: leaders.paired(best, line) for method, line in lines.items()}
    mean, (low, high) = ahead.pop("adamw-32")
    assert f"it has {100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}], which they do not" in text
    assert low < 0 < high
    assert all(interval[0] > 0 for _, interval in ahead.values()), "three seeds tell each of these apart from chance"
    points = [100 * mean for mean, _ in ahead.values()]
    between = f"{min(points):.1f} to {max(points):.1f} points ahead"
    assert between in text
    assert between in text_of("README.md")
    assert lines["lamb-rows"]["score"] <= lines["lamb"]["score"]
    assert "which makes 339 steps for its 87" in text
    losses = {}  # at half and at twice the best rate
    for method, found in grid["methods"].items():
        if found["finished"]:
            scores = {line["settings"]["learning_rate"]: line["score"] for line in grid["lines"] if line["method"] == method}
            best = found["best"]["learning_rate"]
            losses[method] = [100 * (scores[best] - scores[best * factor]) for factor in (0.5, 2.0)]
    half, twice = losses.pop("orthogonal")
    assert f"cost it {half:.1f} and {twice:.1f} points" in text
    (low, high), (least, most) = ((min(values), max(values)) for values in zip(*losses.values(), strict=True))
    assert f"lose {low:.1f} to {high:.1f} points at half of theirs, and {least:.1f} to {most:.1f} at twice" in text


def test_what_is_said_of_the_leaders_elsewhere_is_what_was_measured():
    text = on_one_line(section("The leader", "docs/results.md"))
    [(seeds, grid)] = [found for found in leaders.summaries() if found[0]["task"] == "sst2"]
    lines = {line["method"]: line for line in seeds["lines"]}
    baseline = lines.pop("adamw-32")
    best = max(lines.values(), key=lambda line: line["score"])
    assert all(0 <= best["score"] - line["score"] <= 0.003 for line in lines.values())
    assert "within 0.3 points of the best" in text
    low, high = leaders.paired(baseline, best)[1]
    assert low < 0 < high
    rates = {(line["method"], line["settings"]["learning_rate"]): 100 * line["score"] for line in grid["lines"]}
    orthogonal = [rates["orthogonal", rate] for rate in (16e-3, 32e-3, 64e-3)]
    assert max(orthogonal) - min(orthogonal) <= 0.5
    lamb = [round(rates["lamb", 4e-3] - rates["lamb", rate]) for rate in (2e-3, 16e-3)]
    assert f"LAMB loses {lamb[0]} points at half and {lamb[1]} at four times" in text
    cola = json.loads((leaders.LEADERS / "rates" / "minilm-l6-cola-leader-rates.json").read_text())["lines"]
    scores = {(line["method"], line["settings"]["learning_rate"]): 100 * line["score"] for line in cola}
    best = {name: max(score for (method, _), score in scores.items() if method == name) for name, _ in scores}
    assert f"reaches a Matthews correlation of {best['adamw-32']:.0f}, AdamW at 128 {best['adamw']:.0f}" in text
    assert f"leader {scores['orthogonal', 4e-3]:.0f} at 4e-3 and at 8e-3" in text
    assert f"{scores['orthogonal', 8e-3]:.0f}" == f"{scores['orthogonal', 4e-3]:.0f}"
    assert best["lamb"] == 0
    [path] = (leaders.LEADERS / "noise").glob("*.json")
    noisy = {(line["method"], line["settings"]["learning_rate"]): line for line in json.loads(path.read_text())["lines"]}
    gains = {key: leaders.paired(line, noisy[key[0].partition("-")[0], key[1]]) for key, line in noisy.items() if "-" in key[0]}
    mean, (low, high) = gains["lamb-half", 8e-3]
    assert f"it gains {100 * mean:.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" in text
    assert low > 0
    for key in (("lamb-half", 4e-3), ("lamb-half", 16e-3), *(("orthogonal-half", rate) for rate in (32e-3, 64e-3, 128e-3))):
        assert gains[key][1][0] < 0 < gains[key][1][1]
    means = [100 * gains[key][0] for key in (("lamb-half", 16e-3), ("orthogonal-half", 128e-3))]
    assert f"the means are {means[0]:+.1f} and, with the orthogonal leader, {means[1]:+.1f}" in text
    assert all(gains[key][1][0] < 0 for key in gains if key[0].endswith(("gaussian", "smoothing")))


def test_what_is_said_of_the_large_batch_is_what_was_measured():
    cells = main_cells()
    text = on_one_line(section("GLUE: the main comparison", "docs/results.md"))
    found = differences(cells, "adamw-32")
    for method, said in (
        ("lamb", "LAMB ends {} points behind the baseline {},"),
        ("scala", "ScaLA {} {},"),
        ("freelb", "FreeLB {} {},"),
        ("sam", "SAM {} {},"),
        ("lamb-gaussian", "LAMB with random noise {} {},"),
        ("adamw-large", "AdamW at 512 {} {}."),
    ):
        lost = dataclasses.replace(found[method]["average"], mean=-found[method]["average"].mean)
        assert said.format(*shown(lost, sign="").split(" ", 1)) in text
        on_cola = found[method]["cola"].interval
        assert on_cola[0] < 0 < on_cola[1] or method == "freelb", "three seeds leave it open"
    corrected = corrected_p(cells, "adamw-32")
    stand_out = {pair for pair, p in corrected.items() if p < 0.05 and pair[1] != "average"}
    assert corrected["freelb", "cola"] > 0.1, "left open as well, among six"
    all_of_them = ("lamb", "scala", "lamb-gaussian", "freelb", "sam")
    assert stand_out == {(method, task) for method in all_of_them for task in ("stsb", "mrpc")} | {("adamw-large", "stsb")}
    assert all(found[method][task].mean < 0 for method, task in stand_out)
    assert all(p == 1 for (_, task), p in corrected.items() if task == "sst2"), "no damage"
    steps = {
        method: {r["cost"]["steps"] for task in ("cola", "mrpc", "rte", "stsb") for r in cells[task][method].results.values()}
        for method in ("adamw-32", "lamb")
    }
    large, small = steps["lamb"], steps["adamw-32"]
    assert f"in {min(large)} to {max(large)} steps for {min(small)} to {max(small):,}" in text


def test_what_is_said_of_cola_is_what_was_measured():
    cells = main_cells()
    against_lamb = differences(cells, "lamb")
    text = on_one_line(section("GLUE: the main comparison", "docs/results.md"))
    for method, said in (
        ("scala", "On CoLA ScaLA has {},"),
        ("lamb-gaussian", "random noise {},"),
        ("freelb", "from the start on {}."),
    ):
        found = against_lamb[method]["cola"]
        assert said.format(shown(found)) in text
        assert found.mean < 0 < found.interval[1]
    sam = against_lamb["sam"]["cola"]
    assert f"SAM has {shown(sam)} there at the rho that tuning found" in text
    assert within_noise(sam)
    untuned = differences(gather(planned(EXPERIMENTS / "ablation-rho.toml"), RESULTS / "glue"), "lamb")["sam"]["cola"]
    low, high = (100 * end for end in untuned.interval)
    assert f"at its paper's rho of 0.05 it loses {-100 * untuned.mean:.1f} points to LAMB [{low:.1f}, {high:.1f}]" in text
    assert {m: len(cell.results) for m, cell in cells["cola"].items() if cell.results} == dict.fromkeys(
        ("adamw-32", "adamw-large", "lamb", "scala", "lamb-gaussian", "freelb", "sam"), 3
    )


def test_what_is_said_of_the_pairs_is_what_was_measured():
    cells = main_cells()
    paired = {reference: differences(cells, reference) for reference in ("lamb", "adamw-large", "adamw-32", "lamb-gaussian")}
    text = on_one_line(section("GLUE: the main comparison", "docs/results.md") + section("Results", "README.md"))
    for task, method, against, said in (
        ("stsb", "scala", "lamb", "On STS-B ScaLA comes {} points before LAMB,"),
        ("stsb", "sam", "lamb", "before LAMB, SAM {}, FreeLB"),
        ("stsb", "freelb", "lamb", "FreeLB {}: a tenth of what the batch costs there"),
        ("mrpc", "scala", "lamb", "On MRPC ScaLA has {}, FreeLB"),
        ("mrpc", "freelb", "lamb", "FreeLB {}, SAM"),
        ("mrpc", "sam", "lamb", "SAM {}: no gain there"),
        ("mrpc", "adamw-large", "lamb", "AdamW at 512 comes {} points before it on MRPC (p = 0.095 after Holm)"),
        ("stsb", "adamw-large", "lamb", "and {} on STS-B (ScaLA"),
        ("stsb", "scala", "adamw-large", "ScaLA against that AdamW has {});"),
        ("average", "scala", "lamb", "over all five tasks ScaLA has {} points against LAMB"),
        ("average", "scala", "adamw-large", "against LAMB, {} against AdamW at 512,"),
        ("average", "freelb", "lamb", "FreeLB, with twice LAMB's gradients, has {} points against LAMB"),
        ("average", "sam", "lamb", "SAM, with as many, {}."),
        ("average", "scala", "lamb-gaussian", "and {} against random noise of the same radius from the same step on"),
        ("average", "scala", "lamb-gaussian", "against LAMB, {} against LAMB with random noise of the same radius"),
        ("stsb", "scala", "lamb-gaussian", "Against random noise, ScaLA's {} there cannot"),
        ("average", "scala", "lamb", "On average over the five tasks ScaLA has {} points against LAMB"),
        ("average", "scala", "adamw-large", "{} against AdamW at the same batch"),
        ("average", "scala", "adamw-32", "and {} against the baseline."),
    ):
        found = paired[against][method][task]
        by_chance = within_noise(found)
        assert task != "stsb" or by_chance == bool({method, against} & {"lamb-gaussian", "freelb"})
        assert said.format(shown(found)) in text
    five = {"lamb", "scala", "lamb-gaussian", "adamw-large", "adamw-32"}
    seven = five | {"freelb", "sam"}
    for task in ("cola", "mrpc", "rte", "stsb"):
        assert {m for m, cell in cells[task].items() if len(cell.results) == 3} == seven
        assert {m for m, cell in cells[task].items() if cell.results} == seven, "three more are to come"
    assert {len(cell.results) for cell in cells["sst2"].values()} == {5}
    assert "nine on SST-2, six on the other tasks; with three seeds and three more methods to come" in text
    assert len(cells["sst2"]) == 10
    for column in cells.values():
        spent = {m: {r["cost"]["gradient_evaluations"] for r in cell.results.values()} for m, cell in column.items()}
        assert spent["freelb"] == spent["sam"] == {2 * count for count in spent["lamb"]}, "twice LAMB's gradients"
    stand_out = {(method, "stsb") for method in ("adamw-32", "adamw-large")}
    p = corrected_p(cells, "lamb")
    assert p["adamw-large", "mrpc"] == 0.095
    assert {pair for pair, value in p.items() if value < 0.05 and pair[1] != "average"} == stand_out, "nothing of noise or SAM"
    assert f"(p = {p['scala', 'stsb']} and {p['sam', 'stsb']} after Holm; with four it was" in text
    of_four = {"stsb": {m: cell for m, cell in cells["stsb"].items() if m in five}}
    assert f"with four it was {corrected_p(of_four, 'lamb')['scala', 'stsb']} for ScaLA)" in text
    assert paired["lamb"]["scala"]["stsb"].mean > 0, "a gain"
    assert 0.095 < paired["lamb"]["scala"]["stsb"].mean / paired["lamb"]["adamw-32"]["stsb"].mean < 0.125
    behind = paired["lamb"]["adamw-large"]
    assert all(behind[task].mean > 0 for task in ("cola", "mrpc", "stsb"))
    assert behind["cola"].interval[0] < 0
    assert abs(behind["rte"].mean) < 0.0025, "level"


def test_what_is_said_of_too_few_steps_is_what_was_measured():
    cells = main_cells()
    text = on_one_line(section("GLUE: the main comparison", "docs/results.md"))

    def losses(task, method):
        assert len(cells[task][method].results) == 3
        return [[point["eval_validation_loss"] for point in r["curve"]] for r in cells[task][method].results.values()]

    for method in ("lamb", "scala", "lamb-gaussian", "adamw-large", "freelb", "sam"):
        labels = cells["rte"][method].results[0]["labels"]
        larger_class = Counter(labels).most_common(1)[0][1] / len(labels)
        assert f"the {100 * larger_class:.1f}% of the larger class are within every interval" in text
        low, high = of_cell(cells["rte"][method]).interval
        assert low < larger_class < high
    least = min(max(curve) for curve in losses("rte", "adamw-large"))
    assert least > math.log(2)
    assert f"rises to .{int(100 * least)} and more, above the .69 of a coin" in text
    assert all(0.675 <= curve[-1] < 0.695 for curve in losses("rte", "lamb"))
    assert "LAMB's ends at .68 to .69" in text
    assert all(curve[-1] - min(curve) < 0.002 for curve in losses("mrpc", "lamb")), "has not turned"
    assert all(curve[-1] - min(curve) > 0.01 for curve in losses("mrpc", "adamw-large")), "has passed its least value"
    steps = {task: {r["cost"]["steps"] for r in cells[task]["lamb"].results.values()} for task in ("cola", "mrpc", "rte")}
    assert steps == {"cola": {170}, "mrpc": {80}, "rte": {50}}
    assert "in 50 steps" in text
    assert "found over 170 steps, and MRPC has 80" in text
    said = f"comes to {shown(of_cell(cells['rte']['adamw-32']), sign='')}, with a loss of"
    assert f"{said} {np.mean([curve[-1] for curve in losses('rte', 'adamw-32')]):.1f}." in text
    assert {r["cost"]["steps"] for r in cells["rte"]["adamw-32"].results.values()} == {780}


def test_what_is_said_of_a_higher_rate_is_what_was_measured():
    text = on_one_line(section("GLUE: the main comparison", "docs/results.md"))
    cells = at_rates("mrpc")
    tuned, twice, adamw = "lamb learning_rate 0.0005", "lamb learning_rate 0.001", "adamw-large learning_rate 0.0001"
    assert {len(cells[name].results) for name in (tuned, twice, adamw)} == {3}
    score = shown(of_cell(cells[twice]), sign="")
    gain, level = (of_cell(cells[twice], cells[against]) for against in (tuned, adamw))
    assert f"at twice the rate LAMB has {score} on MRPC, {shown(gain)}" in text
    assert f"against its own rate and {shown(level)} against AdamW at 512" in text
    assert gain.interval[0] > 0, "the rate kept it behind"
    assert within_noise(level), "level"
    noisy = "scala learning_rate 0.001"
    assert len(cells[noisy].results) == 3
    of_rate, of_noise = (of_cell(cells[noisy], cells[against]) for against in ("scala learning_rate 0.0005", twice))
    score = shown(of_cell(cells[noisy]), sign="")
    assert (
        f"ScaLA has {score} there, {shown(of_rate)} against its own rate and {shown(of_noise)} against LAMB at the same" in text
    )
    assert within_noise(of_noise), "gains nothing"
    adamw_twice = "adamw-large learning_rate 0.0002"
    assert len(cells[adamw_twice].results) == 3
    score = shown(of_cell(cells[adamw_twice]), sign="")
    gain, behind = (of_cell(cells[one], cells[other]) for one, other in ((adamw_twice, adamw), (twice, adamw_twice)))
    assert (
        f"AdamW at twice its rate has {score}, {shown(gain)} against its own, and LAMB at twice its rate {shown(behind)}"
        in text
    )
    assert within_noise(behind), "cannot be told"
    costs = [of_cell(cells[name], main_cells()["mrpc"]["adamw-32"]) for name in (adamw_twice, twice)]
    assert f"AdamW at 512 and LAMB come to {shown(costs[0])} and {shown(costs[1])} against the baseline" in text
    assert all(within_noise(cost) for cost in costs), "no cost that shows"
    run = {name for name, cell in cells.items() if cell.results}
    assert run == {tuned, twice, adamw, adamw_twice, "scala learning_rate 0.0005", noisy}


def test_what_is_said_of_a_higher_rate_on_stsb_is_what_was_measured():
    text = on_one_line(section("GLUE: the main comparison", "docs/results.md"))
    cells = at_rates("stsb")
    tuned, twice, adamw = (
        cells[f"{name} learning_rate {rate}"] for name, rate in (("lamb", 5e-4), ("lamb", 1e-3), ("adamw-large", 1e-4))
    )
    baseline = main_cells()["stsb"]["adamw-32"]
    assert {len(cell.results) for cell in (tuned, twice, adamw, baseline)} == {3}
    gain, lead, cost, before = (
        of_cell(*pair) for pair in ((twice, tuned), (twice, adamw), (twice, baseline), (tuned, baseline))
    )
    assert (
        f"at twice the rate LAMB has {shown(of_cell(twice), sign='')}, {shown(gain)} against its own rate, {shown(lead)}"
        in text
    )
    assert f"against AdamW at 512, and {shown(cost)} against the baseline, a quarter of what the batch costs" in text
    assert 0.2 < cost.mean / before.mean < 0.3, "a quarter"
    other = cells["adamw-large learning_rate 0.0002"]
    assert len(other.results) == 3
    gain, lead = of_cell(other, adamw), of_cell(twice, other)
    said = f"AdamW at twice its rate has {shown(of_cell(other), sign='')}, {shown(gain)} against its own"
    assert f"{said}, and LAMB at twice its rate {shown(lead)} against that. ScaLA was not run there." in text
    assert within_noise(lead), "cannot be told apart, as on MRPC"
    run = {name for name, cell in cells.items() if cell.results}
    assert len(run) == 5, "and ScaLA's own rate, not twice of it"
    assert "scala learning_rate 0.001" not in run
    mrpc = at_rates("mrpc")
    left, lost = (of_cell(mrpc[f"lamb learning_rate {rate}"], main_cells()["mrpc"]["adamw-32"]).mean for rate in (1e-3, 5e-4))
    assert left / lost < 0.5, "most is won back"
    assert "of which LAMB wins most back at twice its rate" in on_one_line(section("In short", "docs/results.md"))
    assert "at twice its rate LAMB wins back most of what the batch costs on MRPC and STS-B" in on_one_line(
        text_of("README.md")
    )


def test_what_is_said_of_the_learning_rate_is_what_was_measured():
    text = on_one_line(section("Ablations", "docs/results.md"))
    cells = by_rate()
    assert {multiple for _, multiple in cells} == {0.25, 0.5, 1, 2, 4}
    assert all(len(cell.results) == (5 if multiple == 1 else 3) for (_, multiple), cell in cells.items())
    lost = {pair: 100 * of_cell(cells[pair[0], 1]).mean - 100 * of_cell(cell).mean for pair, cell in cells.items()}
    assert all(abs(points) < 2 for (_, multiple), points in lost.items() if multiple <= 2), "broad"
    falls = [points for (_, multiple), points in lost.items() if multiple == 4]
    assert f"fall, by {min(falls):.0f} to {max(falls):.0f} points" in text
    failed = {
        method: sum(r["score"] < 0.6 for r in cells[method, 4].results.values()) for method in ("adamw-large", "lamb", "scala")
    }
    assert failed == {"adamw-large": 2, "lamb": 1, "scala": 1}
    assert all(within_noise(of_cell(cells["scala", m], cells["lamb", m])) for m in (0.25, 0.5, 1, 2, 4)), "at no rate"
    row = "ScaLA cannot be told from LAMB at any rate from a quarter to four times the tuned one,"
    assert row in on_one_line(text_of("README.md"))


def test_what_is_said_in_short_is_what_was_measured():
    text = on_one_line(section("In short", "docs/results.md"))
    corrected = corrected_p(main_cells(), "lamb")
    assert all(p > 0.05 for (m, _), p in corrected.items() if m not in ("adamw-32", "adamw-large")), "on no task"
    assert "points on STS-B and MRPC at rates that were tuned on CoLA" in text
    behind = {task for (m, task), p in corrected_p(main_cells(), "adamw-32").items() if m == "lamb" and p < 0.05}
    assert behind == {"stsb", "mrpc", "average"}
    radii = [
        json.loads((RESULTS / f"tuning/{name}.json").read_text(encoding="utf-8"))["methods"][method]["best"]["noise_radius"]
        for name, method in (
            ("minilm-l6-cola-minilm", "scala"),
            ("bert-tiny-sst2-controls", "scala-radius"),
        )
    ]
    assert radii == [0.003] * 2
    assert "Tuning took 0.003 both times" in text
    direction = differences(main_cells(), "lamb-gaussian")["scala"]
    assert all(within_noise(difference) for difference in direction.values())
    assert "its direction makes no difference that shows" in text
    more = differences(main_cells(), "lamb")
    assert all(within_noise(more[method]["average"]) for method in ("freelb", "sam"))
    assert "FreeLB and SAM, with more gradients, do no better" in text


def test_what_is_said_of_the_controls_is_what_was_measured():
    text = on_one_line(section("Controls", "docs/results.md"))
    cells = gather({"sst2": planned(EXPERIMENTS / "controls.toml")["sst2"]}, RESULTS / "glue")
    assert {len(cell.results) for name, cell in cells["sst2"].items() if name not in ("lamb", "scala", "adamw-32")} == {3}
    against_lamb, against_small = differences(cells, "lamb"), differences(cells, "adamw-32")
    for found, said in (
        (against_lamb["lamb-dropout"], "dropout {},"),
        (against_lamb["lamb-label-smoothing"], "label smoothing {},"),
        (against_lamb["lamb-weight-decay"], "weight decay {},"),
        (against_lamb["gaussian-radius"], "Gaussian noise at a radius of its own {},"),
        (against_lamb["scala-radius"], "ScaLA at a radius of its own {};"),
        (against_lamb["lamb-more-epochs"], "which costs a third more gradients than ScaLA, {}."),
        (against_small["adamw-32-noise"], "At batch 32 the noise brings AdamW {}."),
    ):
        assert said.format(shown(found["sst2"])) in text
        assert within_noise(found["sst2"]), "within noise"
    row = "ScaLA cannot be told from LAMB at any rate from a quarter to four times the tuned one, nor can tuned dropout,"
    assert f"{row} label smoothing, weight decay" in on_one_line(text_of("README.md"))
    twice, scala = (
        {r["cost"]["gradient_evaluations"] for r in cells["sst2"][method].results.values()}
        for method in ("lamb-more-epochs", "scala")
    )
    assert f"{max(twice) / max(scala):.2f}" == "1.33"


def test_what_is_said_of_the_tuning_of_the_controls_is_what_was_measured():
    text = on_one_line(section("Controls", "docs/results.md"))
    tuned, controls = (
        json.loads((RESULTS / f"tuning/bert-tiny-sst2{more}.json").read_text(encoding="utf-8")) for more in ("", "-controls")
    )
    assert tuned["source"] == controls["source"]
    assert tuned["held_out"] == controls["held_out"] == 0.1
    assert {grid["finished"] for grid in controls["methods"].values()} == {4}
    rate = tuned["methods"]["lamb"]["best"]["learning_rate"]
    assert {grid["best"]["learning_rate"] for grid in controls["methods"].values()} == {rate}
    at = {line["settings"]["noise_radius"]: line["score"] for line in controls["lines"] if line["method"] == "scala-radius"}
    at[0.03] = tuned["methods"]["scala"]["score"]
    radii, scores = zip(*sorted(at.items()), strict=True)
    assert radii == (0.003, 0.01, 0.02, 0.03, 0.06)
    assert sorted(scores, reverse=True) == list(scores), "less, the more noise"
    *first, last = (f"{score:.4f}"[1:] for score in scores)
    assert (
        f"LAMB scores {tuned['methods']['lamb']['score']:.4f}".replace(" 0.", " .")
        + f" and ScaLA {', '.join(first)} and {last}"
        in text
    )
    for method, key, said in (
        ("gaussian-radius", "noise_radius", "the least of four radii is the best ({} at {})"),
        ("lamb-dropout", "dropout", "half of what the encoder came with ({} at {})"),
        ("lamb-label-smoothing", "label_smoothing_factor", "label smoothing ({} at {})"),
        ("lamb-weight-decay", "weight_decay", "weight decay ({} at {})"),
    ):
        best = controls["methods"][method]
        assert best["score"] > tuned["methods"]["lamb"]["score"]
        assert said.format(f"{best['score']:.4f}"[1:], best["best"][key]) in text
    assert controls["methods"]["gaussian-radius"]["at_edge"] == ["noise_radius"]
    assert "On the 6,735 sentences that were held out" in text
    assert round(67349 * tuned["held_out"]) == 6735


def test_what_is_said_of_the_landscape_is_what_was_measured():
    record = json.loads((RESULTS / "landscape/landscape.json").read_text(encoding="utf-8"))
    rows = {row["measure"]: row for row in record["separation"]}

    def ratio(measure, method, against):
        return next(p for p in rows[measure]["pairs"] if (p["method"], p["against"]) == (method, against))

    for measure in ("top_eigenvalue", "trace", "weight_rise", "noise_rise", "slice_rise"):
        for method in ("adamw-large", "lamb"):
            found = ratio(measure, method, "adamw-32")
            assert found["low"] < 1 < found["high"], "the large batch is not steeper"
    assert ratio("gradient_variance", "lamb", "adamw-32")["high"] < 1
    for measure in ("top_eigenvalue", "noise_rise", "gradient_variance"):
        found = ratio(measure, "scala", "lamb")
        assert found["high"] < 1, "the noise does smooth"
        assert 0.45 < found["ratio"] < 0.65, "about half"
    assert ratio("top_eigenvalue", "sam", "lamb")["ratio"] < ratio("top_eigenvalue", "scala", "lamb")["ratio"]
    assert ratio("noise_rise", "sam", "lamb")["ratio"] > ratio("noise_rise", "scala", "lamb")["ratio"]
    for measure in ("trace", "slice_rise"):
        for method in ("scala", "sam"):
            found = ratio(measure, method, "lamb")
            assert found["low"] < 1 < found["high"]
    for row in rows.values():
        for found in (row["score"], row["score_within"]):
            assert found["low"] < 0 < found["high"], "it buys no score"
    barriers = [one["height"] for one in record["barriers"] if {one["start"], one["end"]} == {"lamb", "scala"}]
    assert max(barriers) < 0.01
    early = {run["method"]: [] for run in record["runs"]}
    for run in record["runs"]:
        early[run["method"]].append(run["points"][1]["eigenvalues"][0])
    assert min(early["adamw-32"] + early["adamw-large"]) > max(early["lamb"])
    assert record["agrees"]["with_committed_runs"] == record["agrees"]["of"]


def test_what_is_said_of_the_onset_is_what_was_measured():
    record = json.loads((RESULTS / "onset/onset.json").read_text(encoding="utf-8"))
    assert record["agreement"] == onset.agreement(record["points"])
    of_all, of_less = record["agreement"]["all"], record["agreement"]["less"]
    limits, shares = {}, []
    for point in record["points"]:
        limits.setdefault((point["task"], point["delay"]), []).append(onset.bearable(point))
        share = dict(zip(point["radii"], onset.taken(point), strict=True))
        shares += [(share[run["radius"]], onset.worse(run)) for run in point["outcomes"]]
    mild = [worse for share, worse in shares if share < 0.1]
    between = [worse for share, worse in shares if 0.1 <= share < 1]
    assert (
        f"all that the model has learnt {of_all['worse']} of {of_all['runs']} runs end worse, where it takes less "
        f"{of_less['worse']} of {of_less['runs']}, under a tenth {sum(mild)} of {len(mild)} |"
    ) in on_one_line(text_of("README.md"))
    said = (
        f"Below a tenth of it {sum(mild)} of {len(mild)} runs ended worse than without noise, from there on {sum(between)} of"
    )
    assert f"{said} {len(between)}, beyond all of it {of_all['worse']} of {of_all['runs']}." in (
        on_one_line(text_of("docs/choices.md"))
    )
    assert f"of {len(shares)} such intervals" in on_one_line(text_of("docs/results.md"))
    embedded = [point for point in record["points"] if point["task"] == "acceptability" and point["outcomes"]]
    found = [{run["radius"]: onset.worse(run) for run in point["outcomes"]} for point in embedded]
    assert found == [{0.003: False, 0.01: True, 0.03: True, 0.1: True}] * 3, "right, wrong, named as the limit, right"
    losses = [-100 * run["against"][0] for point in embedded for run in point["outcomes"] if run["radius"] == 0.01]
    assert [round(loss) for loss in losses] == [5, 2, 2]
    of_the_third = dict(zip(embedded[2]["radii"], onset.taken(embedded[2]), strict=True))
    assert embedded[2]["seed"] == 2
    assert of_the_third[0.003] < 0.1, "and not worse"
    assert of_the_third[0.01] > 0.25, "and worse"
    assert all(0.03 <= float(f"{limit:.2f}") <= 0.04 for limit in limits["acceptability", 0.5])
    assert of_less["one_class"] == 0
    assert {f"{limit:.2f}" for limit in limits["sst2", 0.5]} == {"0.07"}
    first = next(point for point in record["points"] if (point["task"], point["delay"], point["seed"]) == ("cola", 0.5, 0))
    assert (first["step"], f"{first['constant'] - first['loss']:.2f}", f"{onset.bearable(first):.3f}") == (85, "0.07", "0.009")
    assert not first["outcomes"][-1]["one_class"]
    assert all(early < late for early, late in zip(limits["cola", 0.5], limits["cola", 0.75], strict=True)), "later bears more"
    span = f"{min(limits['cola', 0.5]):.3f} to {max(limits['cola', 0.5]):.3f}"
    for page in ("docs/results.md", "docs/choices.md"):
        assert "0.07" in text_of(page)
        assert span in text_of(page)


def bench():
    return json.loads((RESULTS / "bench.json").read_text(encoding="utf-8"))


def of_rows(record):
    parts = (record["leader"], record["round"], record["large_batch"]["rows"])
    return {row["name"]: row["ratio"] for part in parts for row in part}


def spread(ratio):
    return f"[{ratio['least']:.2f}, {ratio['greatest']:.2f}]"


def test_the_speeds_are_the_committed_ones():
    record = bench()
    rows = of_rows(record)
    text = on_one_line(text_of("docs/speed.md"))
    for name, said in (
        ("scala Lamb", "takes {} times torch's fused AdamW {}"),
        ("ScaLA, K = 1", "takes {} times a plain step {}"),
        ("sorted by length", "take {} of the time that they take as drawn {}"),
    ):
        ratio = rows[name]
        assert said.format(f"{ratio['median']:.2f}", spread(ratio)) in text
    peers = ("scala Lamb, nvlamb", "timm Lamb", "torch_optimizer Lamb", "pytorch_optimizer Lamb", "AdamW, foreach")
    for peer in (*peers, "naive ascent", "SAM", "FreeLB, K = 2"):
        assert f" {rows[peer]['median']:.2f}" in text, peer
    assert f"peak memory is {record['memory']['ratio']['median']:.2f} times" in text
    assert f"{record['large_batch']['tokens']['sorted']:,} tokens with padding instead of " in text


def test_the_speeds_in_the_readme_are_the_same():
    record = bench()
    rows, text = of_rows(record), text_of("README.md")
    a_round, leader = rows["ScaLA, K = 1"], rows["scala Lamb"]
    memory = record["memory"]["ratio"]["median"]
    assert f"| {a_round['median']:.2f} times a plain step {spread(a_round)}, in {memory:.2f} times its memory |" in text
    peer = rows["timm Lamb"]["median"]
    assert f"takes {leader['median']:.2f} times torch's fused AdamW {spread(leader)}; timm's Lamb {peer:.2f} |" in text
    in_bf16 = {row["name"]: row["ratio"]["median"] for row in record["round"]}["ascent in bf16"]
    assert f"in bfloat16 the same ascent at {in_bf16:.2f} plain steps" in text


def test_the_table_of_ascents_holds_the_committed_numbers():
    record = bench()
    lines = json.loads((RESULTS / "ascents-sst2.json").read_text(encoding="utf-8"))["lines"]
    scores = {line["method"]: np.array(line["scores"]) for line in lines}
    times = {row["name"]: row["ratio"]["median"] for row in record["round"]}
    kept = {row["name"]: row for row in record["kept"]}
    names = {
        "ascent_dropout=False": ("ascent without dropout", "no-dropout"),
        "same_dropout=False": ("own dropout", "own-dropout"),
        "ascent_bf16=True": ("ascent in bf16", "bf16"),
        "ascent_layers=3": ("gradient of top half", "top-half"),
        "noise_share=0.5": ("half the batch", "half-batch"),
        "noise_every=2": ("every 2nd round", "every-2nd"),
        'noise_start="warm", noise_one_pass=True': ("one pass", "one-pass"),
        'noise="none"': ("Game, no follower", "none"),
    }
    page = section("Cheaper ascents", "docs/speed.md")
    rows = [row.strip("| ").split(" | ") for row in page.splitlines() if row.startswith("| ")][1:]
    assert rows[0][-1] == f"{scores['exact'].mean():.4f}"
    assert {row[1].strip("`") for row in rows[1:]} == set(names)
    for _, option, time, rise, score in rows[1:]:
        row, method = names[option.strip("`")]
        assert time == f"{times[row]:.2f}"
        if row in kept:
            assert rise == "{:.2f} [{:.2f}, {:.2f}]".format(kept[row]["kept"], *kept[row]["interval"])
        difference = scores[method] - scores["exact"]
        half = stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
        mean = difference.mean()
        assert score == f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"
    against_none = {
        method: stats.ttest_rel(found, scores["none"]).pvalue for method, found in scores.items() if method != "none"
    }
    corrected = holm(list(against_none.values()))
    assert {method: round(p, 3) for method, p in zip(against_none, corrected, strict=True) if p < 0.05} == {
        "own-dropout": 0.014,
        "every-2nd": 0.014,
        "half-batch": 0.032,
        "top-half": 0.032,
    }


def test_the_speed_of_the_adaptation_is_that_of_the_claims():
    found = report()
    text = on_one_line(section("Time to the baseline's score", "docs/results.md"))
    for cost in ("seconds", "steps"):
        said = re.search(rf"sst2: (\S+) (\[.*?\]) times fewer {cost}, 3 seeds", found)
        assert said is not None
        assert f"{said[1]} times fewer {cost} {said[2]}" in text
        if cost == "seconds":
            assert f"| {said[1]} times fewer {cost} {said[2]} than AdamW" in text_of("README.md")


def rows_of_tables(name):
    """(score, difference to lamb) of each method and setting on SST-2, as the experiment's page says them."""
    cells = gather({"sst2": planned(EXPERIMENTS / f"{name}.toml")["sst2"]}, RESULTS / "glue")
    differences = {row[0]: row[1] for row in tables.differences_table(cells, "lamb")[1]}
    return {row[0]: (row[2], differences.get(row[0], "-")) for row in tables.scores_table(cells)[1]}


def test_no_method_differs_from_lamb_in_the_main_comparison():
    """If this fails, the sentence below the table of docs/results.md has to change."""
    assert "On CoLA and SST-2 no difference to LAMB stands out of the noise" in text_of("docs/results.md")
    run = {name: row for name, row in rows_of_tables("main").items() if row[0] != tables.NOT_RUN}
    assert len(run) > 5
    for _, difference in run.values():
        assert difference == "-" or difference.endswith(" p=1")
    header, rows = tables.differences_table(main_cells(), "lamb")
    column = next(i for i, name in enumerate(header) if "cola" in name)
    on_cola = [row[column] for row in rows if row[column] != tables.NOT_RUN]
    assert len(on_cola) > 5
    assert all(float(difference.rpartition("=")[2]) > 0.1 for difference in on_cola)


def test_the_ablations_are_those_of_the_committed_runs():
    text = on_one_line(section("Ablations", "docs/results.md"))
    few = rows_of_tables("ablation-few")
    for score, said in ((few["lamb"][0], "LAMB scores {}"), (few["scala noise_radius 0.03"][1], "{} at radius 0.03"),
                        (few["scala noise_radius 0.01"][1], "by {} at 0.01")):  # fmt: skip
        assert said.format(re.split(r" (?:n|p)=", score)[0]) in text
    cells = gather({"sst2": planned(EXPERIMENTS / "ablation-radius.toml")["sst2"]}, RESULTS / "glue")["sst2"]
    scores = {name: [result["score"] for result in cell.results.values()] for name, cell in cells.items()}
    assert sorted(score < 0.55 for score in scores.pop("scala noise_radius 0.1")) == [False, True, True]
    assert all(score > 0.75 for others in scores.values() for score in others)
    for _, difference in rows_of_tables("ablation-delay").values():
        assert difference == "-" or difference.endswith(" p=1")
    for score, difference in rows_of_tables("ablation-steps").values():
        assert score != tables.NOT_RUN
        assert difference == "-" or float(difference.rpartition("=")[2]) > 0.5
    cells = gather({"acceptability": planned(EXPERIMENTS / "ablation-radius.toml")["acceptability"]}, RESULTS / "glue")
    noise = differences(cells, "lamb")
    small, larger = (noise[f"scala noise_radius {radius}"]["acceptability"].mean for radius in (0.003, 0.01))
    assert abs(small) < 0.01 < -larger


def test_norm_start_and_leader_are_worth_what_the_committed_runs_say():
    text = on_one_line(section("Ablations", "docs/results.md"))
    of = {}
    for name in ("ablation-norm", "ablation-start", "ablation-leader"):
        cells = gather({"sst2": planned(EXPERIMENTS / f"{name}.toml")["sst2"]}, RESULTS / "glue")
        assert all(len(cell.results) >= 3 for cell in cells["sst2"].values())
        of |= {method: (cells["sst2"][method], row["sst2"]) for method, row in differences(cells, "scala").items()}
    for method, said in (
        ("scala-linf", "in place of L2 comes to {} points"),
        ("scala-random", "starts at random to {};"),
        ("adamw-noise", "AdamW at its own tuned rate comes to {};"),
        ("clipped", "`clipped` comes to {};"),
        ("vectors-by-adam", "as in timm and apex, to {}."),
        ("paper", "Only `paper` loses, {}:"),
    ):
        found = of[method][1]
        assert said.format(shown(found)) in text
        assert (found.interval[1] < 0) == (method == "paper")
    scala = cells["sst2"]["scala"]
    for method in ("scala-warm", "nvlamb"):
        results = of[method][0].results
        assert all(result["predictions"] == scala.results[seed]["predictions"] for seed, result in results.items()), method

    def scores(method, point):
        return np.array([of[method][0].results[seed]["curve"][point]["eval_validation_accuracy"] for seed in (0, 1, 2)])

    of["scala"] = (scala, None)
    first = [f"{100 * scores(method, 0).mean():.1f}" for method in ("adamw-noise", "scala")]
    assert f"has {first[0]} for {first[1]} at the first evaluation: within noise too" in text
    assert stats.ttest_1samp(scores("adamw-noise", 0) - scores("scala", 0), 0).pvalue > 0.1
    falls = 100 * (scores("paper", 2) - scores("paper", 3))
    assert f"falls by {min(falls):.0f} to {max(falls):.0f} points when the noise begins" in text
    assert all(scores("paper", 2) < scores("scala", 2)), "has learnt less by half way"


def test_the_head_of_a_regression_is_worth_what_the_committed_runs_say():
    text = on_one_line(section("The head of a regression", "docs/results.md"))
    cells = gather(planned(EXPERIMENTS / "ablation-head.toml"), RESULTS / "glue")
    scores = {row[0]: re.split(r" n=3$", row[2]) for row in tables.scores_table(cells)[1]}
    for name, said in (
        ("lamb zero_head True", "correlation of {}, x 100"),
        ("lamb zero_head False", "comes to {}."),
        ("adamw zero_head False", "AdamW, which can move such a head, comes to {} from the labels' mean and spread"),
        ("adamw zero_head True", "and to {} from 0"),
    ):
        score, end = scores[name]
        assert end == ""  # of three seeds
        assert said.format(score) in text
    answers = [len(set(result["predictions"])) for result in cells["stsb"]["lamb zero_head True"].results.values()]
    assert set(answers) == {1, 2}
    loss = differences(cells, "adamw zero_head False")["adamw zero_head True"]["stsb"]
    assert shown(loss) in text
    assert within_noise(loss), "none of that can be told from chance"


def points(value):
    return f"{value:.3f}".removeprefix("0")


def test_the_choices_are_the_committed_measurements():
    lines = json.loads((RESULTS / "defaults-noise-sst2.json").read_text(encoding="utf-8"))["lines"]
    lines += json.loads((RESULTS / "defaults-rate-sst2.json").read_text(encoding="utf-8"))["lines"]
    s = {}  # by method and what is not the default or the same for the whole method
    for line in lines:
        default = {key: field.default for key, field in Options.model_fields.items()}
        default |= {"noise_radius": 0.03, "lamb_dialect": "debiased"}
        same = ("batch_size", "leader", "optim", "noise")
        own = [v for k, v in line["settings"].items() if k not in same and default.get(k) != v]
        s[line["method"], *own] = points(line["score"])
    text = text_of("docs/choices.md")
    for said in (
        f"without noise {s['none', ]}",
        f".01: {s['radius', 0.01]}, .03: {s['radius', ]}; .1 and .3 collapse to the majority class ({s['radius', 0.1]})",
        f"root mean square: {s['linf', 'linf', 0.01]}, {s['linf', 'linf']}, {s['linf', 'linf', 0.1]}",
        f"0: {s['delay', 0.0]}, a quarter: {s['delay', 0.25]}, half: {s['radius', ]}, three quarters: {s['delay', 0.75]};",
        f"2: {s['steps', 2]}, 3: {s['steps', 3]}, at",
        f"random: {s['start', 'random']}, warm (where the sample's last visit ended): {s['start', 'warm']}",
        f"with it: {s['clean-too', 1.0]}",
        f"each its own: {s['own-dropout', False]}",
        f"`nvlamb` {s['dialect', 'nvlamb']}, `clipped` {s['dialect', 'clipped']}; `paper` {s['dialect', 'paper']}",
        "LAMB .003-.024: " + ", ".join(s["lamb", rate] for rate in (0.003, 0.006, 0.012, 0.024)),
        "with noise: " + ", ".join(s["scala", rate] for rate in (0.003, 0.006, 0.012, 0.024)),
        "5e-5-4e-4: " + ", ".join(s["adamw", rate] for rate in (5e-5, 1e-4, 2e-4, 4e-4)),
    ):  # fmt: skip
        assert said in text, said


def tuned_scores(name, method, key):
    """Score by setting, as the choices say it."""
    lines = json.loads((RESULTS / f"tuning/{name}.json").read_text(encoding="utf-8"))["lines"]
    found = {line["settings"][key]: line["score"] for line in lines if line["method"] == method}
    return [points(found[setting]) if found[setting] else "0" for setting in sorted(found)], found


def listed(values):
    return f"{', '.join(values[:-1])} and {values[-1]}"


def test_the_defaults_are_what_was_measured_on_minilm():
    text = on_one_line(text_of("docs/choices.md"))
    rates, cola_rates = tuned_scores("minilm-l6-cola-minilm", "lamb", "learning_rate")
    radii, cola_radii = tuned_scores("minilm-l6-cola-minilm", "scala", "noise_radius")
    assert f"LAMB at 2.5e-4, 5e-4 and 1e-3 has a Matthews correlation of {listed(rates)}, ScaLA" in text
    assert f"radius .003, .01 and .03 {listed(radii)} (`" in text
    default = {field.name: field.default for field in dataclasses.fields(ScalaConfig)}
    rate, radius = RATES["orthogonal"], default["noise_radius"]
    assert f"| learning rate | {rate * 1e3:g}e-3 |" in text
    assert f"| radius of the ball | {radius} of each" in text
    grid = json.loads((RESULTS / "leaders/rates/minilm-l6-acceptability-leader-rates.json").read_text(encoding="utf-8"))
    assert default["lamb_dialect"] == "orthogonal"
    for dialect, method in (("orthogonal", "orthogonal"), ("relative", "relative"), ("debiased", "lamb")):
        best = grid["methods"][method]["best"]["learning_rate"]
        assert RATES[dialect] == best, "the best of MiniLM's on the embedded task"
    unharmed = {setting for setting, score in cola_radii.items() if score > max(cola_rates.values()) - 0.02}
    assert radius == max(unharmed), "the largest that did it no harm"


def test_the_demonstration_plays_what_tuning_found():
    tuned = json.loads((RESULTS / "tuning/minilm-l6-acceptability-demo.json").read_text(encoding="utf-8"))["methods"]
    assert {method: grid["finished"] for method, grid in tuned.items()} == dict.fromkeys(
        ("adamw-32", "adamw", "lamb", "scala"), 4
    )
    for run in load_experiment(EXPERIMENTS / "demo.toml", "acceptability"):
        settings = run.settings()
        best = tuned[run.method]["best"]
        assert {key: settings[key] for key in best} == best


if __name__ == "__main__":
    for path in PAGES:
        before = path.read_text(encoding="utf-8")
        after = made_anew(before)
        if after != before:
            write_whole(path, after)
            print(f"{path.relative_to(ROOT)}: new tables")
    draw_differences(main_cells(), ("adamw-32", "lamb"), DIFFERENCES, "main comparison", numbers_of_the_figure())
    draw_speedup(demo_cells(), "adamw-32", RESULTS / "demo/acceptability.png", "acceptability: MiniLM-L6")
