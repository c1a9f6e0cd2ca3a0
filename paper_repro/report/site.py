"""The site: what the sections show is gathered here, how they look is in the templates."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup

from convergence import page as theory_page
from convergence import verifier
from convergence.measurement import CurveReport, draw
from convergence.theorem import Theorem
from convergence.theorems import all_theorems
from paper_repro.analysis.cells import gather, rows_of
from paper_repro.analysis.claims import CLAIMS, FEWEST_SEEDS, findings
from paper_repro.analysis.experiment_figures import draw_speedup
from paper_repro.analysis.tables import in_short
from paper_repro.bench.speed_report import report as bench_report
from paper_repro.landscape.landscape_page import page as landscape_page
from paper_repro.onset import page as onset_page
from paper_repro.record import provenance, write_json, write_whole
from paper_repro.report import experiments, prose, records, toy_game
from paper_repro.report.records import Record
from paper_repro.runs.experiment import Run, read_toml
from paper_repro.runs.run import read_result
from paper_repro.runs.store import result_path
from paper_repro.runs.tuning import EXPERIMENTS
from paper_repro.scaling.scaling_page import page as scaling_page

ROOT = Path(__file__).parents[2]
DEMO = EXPERIMENTS / "demo.toml"
_ASSETS = Path(__file__).parent / "assets"
_PAGES = ("index.html", "theory.html", "trust.html", "data.html")
_THEORY_TEMPLATES = {"theory.html": "index.html.j2", "trust.html": "trust.html.j2"}
_VERSIONED = ("torch", "transformers", "datasets", "scipy", "scikit-learn", "sympy", "numpy", "scala-adapt")
_MARK = '<meta name="generator" content="paper_repro.report">'
METHODS = "What the paper does not say, and what we chose"


def build(results: Path, runs: Path, out: Path) -> Path:
    """Make the site, beside its place first, so that a report is there whole or not at all.

    Args:
        results: kept results.
        runs: fresh ones.
        out: folder of the site; an older report in it is replaced.

    Returns:
        Its first page.

    Raises:
        ValueError: a result file is damaged, or `out` holds something that is no report.
    """
    if not results.is_dir():
        raise ValueError(f"{results} is no folder of results")
    first = out / "index.html"
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not _is_report(first):
        raise ValueError(f"{out} holds something that is no report, and would be replaced; give another folder")
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        _write(results, runs, partial)
        if out.exists():
            shutil.rmtree(out)
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return first


def _is_report(index: Path) -> bool:
    return index.exists() and _MARK in index.read_text(encoding="utf-8")


def _write(results: Path, runs: Path, out: Path) -> None:
    data = out / "data"
    data.mkdir(parents=True)
    kept = records.gather(results, runs, data)
    theorems = all_theorems()
    theory = _theory(data, theorems, out / "figures")
    environment = _environment()
    documents = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
    claims = _claims(data)
    context: dict[str, Any] = {
        "claims": claims,
        "tests": [test["finding"].status for claim in claims for test in claim["tests"]],
        "game": toy_game.document(),
        "experiments": experiments.pages(data, out / "tables"),
        "demos": _demos(data, out / "figures"),
        "bench": _bench(data),
        "landscape": _study(data, "landscape", landscape_page),
        "onset": _study(data, "onset", onset_page),
        "scaling": _study(data, "scaling", scaling_page),
        "faults": prose.section("", ROOT / "docs" / "faults.md"),
        "methods": prose.section(METHODS, *documents),
        "limits": prose.section("Limits", *documents),
        "citation": prose.citation(ROOT / "CITATION.cff"),
        "records": kept,
        "by_name": {record.name: record for record in kept},
        "by_command": _by_command(kept),
        "built": provenance(_VERSIONED),
        "data": data,
        "fewest_seeds": FEWEST_SEEDS,
        "theory": None,
        "shown": [],
        "titles": {},
    }
    if theory is not None:
        context |= theory_page.contents(theory, theorems)
    for file in _PAGES:
        if theory is None and file in _THEORY_TEMPLATES:
            continue
        template = _THEORY_TEMPLATES.get(file, f"{file.removesuffix('.html')}-page.html.j2")
        write_whole(out / file, environment.get_template(template).render(**context, page=file))
    for theorem in theorems if theory is not None else ():  # what the page of trust says can be verified in this folder
        write_json(out / "certificates" / f"{theorem.name}.json", theorem.document())
    for asset in (*_ASSETS.iterdir(), Path(verifier.__file__)):
        shutil.copy(asset, out / asset.name)


def _environment() -> Environment:
    """The theory's templates and ours; its two pages take our layout."""
    environment = theory_page.renderer(lambda name: f"figures/{name}", "theory.html")
    assert environment.loader is not None
    environment.loader = ChoiceLoader([PackageLoader("paper_repro.report"), environment.loader])
    environment.filters |= {"markdown": prose.html, "script": _script, "minus": experiments.minus}
    environment.globals |= {"anchor": experiments.anchor, "files_of": experiments.files_of, "mark": Markup(_MARK)}
    environment.globals |= {"settings_of": experiments.settings_of, "shared_settings": experiments.shared_settings}
    environment.globals |= {"command_of": records.command_of}
    return environment


def _script(value: Any) -> Markup:
    """JSON that may stand between script tags."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))


def _claims(data: Path) -> list[dict[str, Any]]:
    """Each claim with its tests."""
    found = iter(findings(CLAIMS, data))
    claims = []
    for claim in tomllib.loads(CLAIMS.read_text(encoding="utf-8"))["claims"]:
        tests = [{"finding": next(found), "href": _place(test)} for test in claim["tests"]]
        claims.append({**claim, "tests": tests})
    return claims


def _place(test: Mapping[str, Any]) -> str:
    """Where the site shows what a claim's test reads."""
    if "experiment" in test:
        return f"#{test['experiment']}"
    if "theorem" in test:
        return f"theory.html#{test['theorem']}"
    return "#speed" if test["file"] == "bench.json" else f"#{Path(test['file']).stem}"


def _theory(data: Path, theorems: Sequence[Theorem], figures: Path) -> dict[str, Any] | None:
    """The theory's results, its figures drawn from them; None if there are none."""
    path = data / "theory" / "theory.json"
    if not path.exists():
        return None
    theory = records.read(path)
    known = {theorem.name: theorem for theorem in theorems}
    figures.mkdir(parents=True, exist_ok=True)
    for report in theory["theorems"]:
        theorem = known.get(report["name"])
        if theorem is None or [step.name for step in theorem.proof] != [step["step"] for step in report["proof"]]:
            raise ValueError(
                f"theory/theory.json is of another version of the theorem {report['name']!r}: run make theory again"
            )
        measurements = {one.name: one for one in theorem.measurements}
        for found in report["measurements"]:
            if found["figure"]:
                curves = [CurveReport(**curve) for curve in found["curves"]]
                draw(measurements[found["name"]], curves, figures / found["figure"])
    return theory


def _demos(data: Path, figures: Path) -> list[dict[str, Any]]:
    """The demonstration's tasks: table, picture, files."""
    by_task: dict[str, list[Run]] = {}
    for path in sorted((data / "demo").glob("*/*.json")):
        if not path.name.endswith(".diverged.json"):
            run = Run.of_settings(read_result(path)["settings"])
            by_task.setdefault(run.task, []).append(run)
    demos = []
    for task, runs in by_task.items():
        methods = list(read_toml(DEMO)["methods"])
        runs.sort(key=lambda run: methods.index(run.method) if run.method in methods else len(methods))
        cells = gather({task: runs}, data / "demo")
        baseline, figure = rows_of(cells)[0], f"demo-{task}.png"
        counts = {result["cost"]["train_examples"] for cell in cells[task].values() for result in cell.results.values()}
        title = f"{task}: {runs[0].model}, {counts.pop():,} training examples"
        draw_speedup(cells, baseline, figures / figure, title)
        table = in_short(cells, baseline)
        texts = [[experiments.Number(experiments.minus(text)) for text in row] for row in table.rows]
        files = [f"data/demo/{result_path(run, Path()).as_posix()}" for run in runs]
        shown = experiments.Shown(title, list(table.head), texts)
        demos.append({"task": task, "title": title, "table": shown, "figure": figure, "files": files})
    return demos


def _bench(data: Path) -> dict[str, Any] | None:
    path = data / "bench.json"
    if not path.exists():
        return None
    record = records.read(path)
    return {
        "record": record,
        "text": bench_report(record),
        "figures": {f.stem: f.name for f in sorted(data.glob("bench-*.svg"))},
    }


def _study(data: Path, name: str, page: Callable[[dict[str, Any]], str]) -> dict[str, Any] | None:
    """A study with a folder of its own: its page as Markdown, by section, and the figures that it does not show."""
    path = data / name / f"{name}.json"
    if not path.exists():
        return None
    try:
        text = page(records.read(path))
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{name}/{name}.json is not what make {name} writes now ({error!r}): make it again") from error
    start, *sections = text.partition("\n")[2].split("\n## ")  # without its title
    first = f"{start}\n## {sections[0]}" if sections else start
    others = [figure.name for figure in sorted(path.parent.glob("*.svg")) if figure.name not in text]
    return {"text": first, "sections": [section.split("\n", 1) for section in sections[1:]], "figures": others}


def _by_command(kept: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by the command that makes them, those of no command last."""
    found: dict[str, list[Record]] = {}
    for record in sorted(kept, key=lambda record: (not record.command, record.name)):
        found.setdefault(record.command, []).append(record)
    return found
