"""The report: its numbers are those of the files beside it, its links resolve, and a browser shows it without complaint."""

import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from paper_repro.analysis import tables
from paper_repro.analysis.cells import gather, planned
from paper_repro.analysis.claims import NOT_TESTABLE, RESULTS, findings
from paper_repro.report import experiments, prose, records, site, toy_game
from paper_repro.report.__main__ import main
from paper_repro.runs.store import result_path
from paper_repro.runs.tuning import EXPERIMENTS

THEOREMS = ("projected-ascent", "normalized-step", "scala-rate")
CLAIMS = """
[[claims]]
id = "C2"
text = "comparable"
[[claims.tests]]
what = "against lamb"
kind = "comparable"
experiment = "main"
method = "scala"
reference = "lamb"
margin = 0.01
needs = "the runs"
[[claims]]
id = "C5"
text = "a rate"
[[claims.tests]]
what = "the rate"
kind = "theorem"
file = "theory/theory.json"
theorem = "scala-rate"
needs = "make theory"
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A few of the kept results: two theorems, five runs, the benchmark, a demonstration."""
    folder = tmp_path_factory.mktemp("results")
    theory = json.loads((RESULTS / "theory" / "theory.json").read_text())
    theory["theorems"] = [report for report in theory["theorems"] if report["name"] in THEOREMS]
    theory["pep"] = None  # which names theorems that are not here
    for report in theory["theorems"]:
        report["measurements"] = report["measurements"][:1]
    (folder / "theory").mkdir()
    (folder / "theory" / "theory.json").write_text(json.dumps(theory))
    demo = (path.relative_to(RESULTS).as_posix() for path in (RESULTS / "demo").rglob("*-s0-*.json"))
    for name in ("bench.json", "bench-phases.svg", *demo):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(RESULTS / name, folder / name)
    shutil.copytree(RESULTS / "tuning", folder / "tuning")
    (folder / "glue" / "sst2").mkdir(parents=True)
    for run in planned(EXPERIMENTS / "main.toml")["sst2"]:
        if run.method in ("adamw-32", "lamb", "scala") and run.seed < 2 and (run.method, run.seed) != ("scala", 1):
            shutil.copy(result_path(run, RESULTS / "glue"), folder / "glue" / "sst2")
    return folder


@pytest.fixture(scope="module", autouse=True)
def few(tmp_path_factory):
    """Two experiments and two claims: planning the others takes longer than all the rest."""
    folder = tmp_path_factory.mktemp("experiments")
    for name in ("main.toml", "ablation-radius.toml"):
        shutil.copy(EXPERIMENTS / name, folder)
    claims = tmp_path_factory.mktemp("claims") / "claims.toml"
    claims.write_text(CLAIMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "EXPERIMENTS", folder)
        patch.setattr(site, "CLAIMS", claims)
        yield


@pytest.fixture(scope="module")
def report(results, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "report"
    assert main(["--results", str(results), "--runs", str(results / "none"), "--out", str(out)]) == 0
    return out


VOID = ("meta", "link", "img", "br", "hr", "input")


class Page(HTMLParser):
    """What a page has and asks for."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.wanted, self.images, self.inputs, self.labels, self.words, self.open = [], [], [], [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "label":
            self.labels.append(found["for"])
        if tag == "input":
            self.inputs.append(found["id"])
        if tag == "button":
            assert found["type"] == "button"
        if tag == "svg":
            assert found["role"] == "img"
            assert found["aria-label"]
        if tag == "img":
            self.images.append(found)
        self.wanted += [(tag, found[name]) for name in ("href", "src") if name in found]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def pages_of(report):
    return {path.name: Page(path) for path in report.glob("*.html")}


def check_links(report):
    """Every relative link and image leads to a file, and to an id where it names one; nothing else is fetched."""
    pages = pages_of(report)
    for name, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), f"{name}: an id twice"
        assert sorted(page.labels) == sorted(page.inputs)
        assert page.wanted.count(("a", "#content")) == 1
        for image in page.images:
            assert len(image["alt"]) > 10, image
        for tag, target in page.wanted:
            if target.startswith("https://"):
                assert tag == "a", f"{name} fetches {target}"
            elif target != "data:,":
                file, _, anchor = target.partition("#")
                assert not file or (report / file).is_file(), f"{name}: {target}"
                assert not anchor or anchor in pages[file or name].ids, f"{name}: {target}"


def text_of(path):
    return re.sub(r"\s+", " ", "".join(Page(path).words))


def test_every_link_and_image_resolves(report):
    check_links(report)
    assert set(pages_of(report)) == {"index.html", "theory.html", "trust.html", "data.html"}
    assert "Not made yet: sharpness, spectra" in text_of(report / "index.html")


def test_every_figure_of_an_experiment_is_shown(report):
    shown = [image["src"] for image in Page(report / "index.html").images if image["src"].startswith("tables/main")]
    assert shown == ["tables/main-differences.png", "tables/main.png"]
    text = (report / "index.html").read_text(encoding="utf-8")
    full = [f'<figure class="full"><img src="{name}"' in text for name in shown]
    assert full == [False, True], "one panel keeps its size, two of costs take the width"


@pytest.mark.parametrize(("columns", "below"), [(3, False), (4, True)])  # 4 columns and 3 intervals, 5 and 4
def test_intervals_stand_below_their_numbers_where_there_are_many_columns(columns, below):
    number = experiments.Number("+1.2 [+0.3, +2.1] p=0.04", "data.html#there")
    line = [experiments.Number("lamb"), *[number] * (columns - 1), experiments.Number("not run")]
    table = experiments.Shown("Any", ["method", *"abcd"[:columns]], [line, [line[0], *[number] * columns]])
    shown = site._environment().get_template("parts.html.j2").module.shown(table)
    assert shown.count("<td") == 2 * columns * (1 if below else 2)
    assert ('<table class="below">' in shown) == below, "which is set tighter"
    assert shown.count('colspan="2"') == (0 if below else columns)
    value = '<td class="n"><a href="data.html#there">+1.2</a>'
    interval = "<span>[+0.3, +2.1]</span><span>p=0.04</span>" if below else "[+0.3, +2.1] p=0.04"
    cell = (
        f'{value}<span class="spread">{interval}</span></td>' if below else f'{value}</td><td class="spread"> {interval}</td>'
    )
    assert shown.count(cell) == 2 * columns - 1
    assert shown.count('<td class="n">not run</td>') == 1


def test_claims_are_those_of_make_claims(report, results):
    text = text_of(report / "index.html")
    found = findings(site.CLAIMS, results)
    assert {finding.status for finding in found} != {NOT_TESTABLE}
    for finding in found:
        assert f"{finding.status.removesuffix(' by')} {finding.what} {experiments.minus(finding.evidence)}" in text


def test_every_number_of_a_table_leads_to_its_files(report, results):
    cells = gather(planned(EXPERIMENTS / "main.toml", results / "tuning"), results / "glue")
    _, rows = tables.scores_table(cells)
    index, data = ((report / name).read_text(encoding="utf-8") for name in ("index.html", "data.html"))
    shown = [row for row in rows if "[" in " ".join(row)]
    assert [row[0] for row in shown] == ["adamw-32", "lamb", "scala"]
    for row in shown:
        value, interval = next(text for text in row if "[" in text).split(" [")
        name = experiments.anchor("main", "sst2", row[0])
        link = f'<td class="n"><a href="data.html#{name}">{value}</a></td><td class="spread"> [{interval}</td>'
        assert link in index
        entry = re.search(rf'<tr id="{name}">.*?</tr>', data, re.DOTALL)[0]
        files = re.findall(r'href="(data/glue/[^"]+)">([\d.]+)</a> <code title="(\w+)"', entry)
        assert len(files) == len(cells["sst2"][row[0]].results)
        for file, score, digest in files:
            content = (report / file).read_bytes()
            assert hashlib.sha256(content).hexdigest() == digest
            result = json.loads(content)
            assert f"{result['score']:.4f}" == score
            assert result["settings"]["method"] == row[0]
    assert "Not run: cola, mrpc, rte, stsb" in text_of(report / "index.html")
    assert "--tasks sst2 --seeds 0 1" in text_of(report / "index.html")


def test_every_copied_file_is_listed_with_its_hash(report):
    data = (report / "data.html").read_text(encoding="utf-8")
    for path in (report / "data").rglob("*.*"):
        name = path.relative_to(report).as_posix()
        assert f'href="{name}"' in data
        assert hashlib.sha256(path.read_bytes()).hexdigest() in data


def test_theorems_are_there_with_folded_proofs(report):
    theory = (report / "theory.html").read_text(encoding="utf-8")
    for name in THEOREMS:
        assert f'<section id="{name}"' in theory
    assert theory.count("<details><summary>Proof, ") == len(THEOREMS)
    assert theory.count("<math") > 100
    assert "What has to be trusted" in text_of(report / "trust.html")


def test_without_results_the_page_says_what_makes_them(tmp_path):
    (tmp_path / "results").mkdir()
    assert main(["--results", str(tmp_path / "results"), "--runs", str(tmp_path), "--out", str(tmp_path / "report")]) == 0
    check_links(tmp_path / "report")
    text = text_of(tmp_path / "report" / "index.html")
    for name in ("theory", "glue-minilm", "landscape", "onset", "scaling", "bench", "demo"):
        assert re.search(rf"make {name}[a-z ]* makes it", text), name


@pytest.mark.parametrize("name", ["theory/theory.json", "bench.json", "glue/sst2", "demo/acceptability/acceptability-lamb-s0"])
def test_a_damaged_file_is_named_and_the_old_report_stays(results, name, tmp_path, capsys):
    folder, out = tmp_path / "results", tmp_path / "report"
    shutil.copytree(results, folder)
    out.mkdir()
    (out / "index.html").write_text(site._MARK)
    damaged = next(path for path in sorted(folder.rglob("*.json")) if path.relative_to(folder).as_posix().startswith(name))
    damaged.write_bytes(damaged.read_bytes()[:-40])
    assert main(["--results", str(folder), "--runs", str(tmp_path), "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert "is damaged" in said
    assert damaged.name in said
    assert str(folder) in said
    assert [path.name for path in tmp_path.iterdir() if "report" in path.name] == ["report"]
    assert (out / "index.html").read_text() == site._MARK


def test_what_lacks_a_part_is_named(tmp_path):
    (tmp_path / "results").mkdir()
    for name, content in (("bench.json", {"round": []}), ("theory/theory.json", []), ("glue/sst2/a.json", {"settings": {}})):
        path = tmp_path / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=re.escape(str(path)) + " is damaged"):
            records.gather(tmp_path / "results", tmp_path / "runs", tmp_path / "data")
        path.unlink()


def test_the_game_s_examples_show_what_is_said_of_them(report):
    buttons = re.findall(r"data-set='(.*?)'", (report / "index.html").read_text(encoding="utf-8"))
    half, whole, short, large = ({name: json.loads(text)[name] for name in ("delay", "radius", "steps")} for text in buttons)

    def ends(settings):
        played = toy_game.trajectory(**settings)
        x = torch.tensor([played["x"][-1]], dtype=torch.float64)
        return toy_game.problem(settings["radius"]).phi(x).item(), x.abs().max().item(), played["gradients"]

    assert ends(half)[0] == pytest.approx(ends(whole)[0], rel=0.01)
    assert ends(half)[2] < ends(whole)[2]
    assert ends(short)[0] > 1.3 * ends({**short, "steps": 3})[0]
    assert ends(large)[1] < 0.1
    assert ends({**large, "delay": toy_game.ROUNDS})[1] > 5


def test_studies_appear_when_they_are_there(tmp_path, monkeypatch):
    for name in ("landscape", "onset", "scaling"):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        parts = {part: [] for part in records._PARTS[f"{name}/{name}.json"]}
        (folder / f"{name}.json").write_text(json.dumps(parts))
        for figure in ("in-the-text", "beside-it"):
            (folder / f"{name}-{figure}.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
        text = f"# Title\nIntroduction of {name}.\n## One\n- a\n\n## Two\n![what it shows]({name}-in-the-text.svg)\n"
        monkeypatch.setattr(site, f"{name}_page", lambda record, text=text: text)
    (tmp_path / "results").mkdir()
    assert (
        main(["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "report")]) == 0
    )
    check_links(tmp_path / "report")
    index = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    for name in ("landscape", "onset", "scaling"):
        assert f"<p>Introduction of {name}.</p>\n<h3>One</h3>" in index
        assert f'<details><summary>Two</summary><p><img src="data/{name}/{name}-in-the-text.svg"' in index
        assert index.count(f'src="data/{name}/{name}-beside-it.svg"') == 1
    assert "9 result files, 9 of them not committed yet" in text_of(tmp_path / "report" / "index.html")


def test_a_theory_of_another_version_is_refused(results, tmp_path, capsys):
    shutil.copytree(results / "theory", tmp_path / "results" / "theory")
    path = tmp_path / "results" / "theory" / "theory.json"
    path.write_text(path.read_text().replace('"step": "short steps"', '"step": "another"'))
    assert main(["--results", str(tmp_path / "results"), "--runs", str(tmp_path), "--out", str(tmp_path / "report")]) == 1
    assert "another version of the theorem 'projected-ascent'" in capsys.readouterr().err


def test_no_other_folder_is_replaced(results, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["--results", str(results), "--out", str(tmp_path)]) == 1
    assert "would be replaced" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").exists()


def test_of_two_results_the_later_is_shown(tmp_path):
    results, runs = tmp_path / "results", tmp_path / "runs"

    def put(folder, name, date, **more):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        parts = {part: [] for part in records._PARTS.get(name, ())}
        (folder / name).write_text(json.dumps({**parts, "provenance": {"finished": date}, **more}))

    put(results, "bench.json", "2026-01-02", of="kept")
    put(runs, "bench.json", "2026-01-01", of="runs")
    put(results, "theory/theory.json", "2026-01-02", of="kept")
    put(runs, "theory/theory.json", "2026-01-03", of="runs")
    put(runs, "landscape/landscape.json", "2026-01-01", of="runs")
    put(runs, "landscape/a-checkpoint.json", "2026-01-01", of="runs")
    (runs / "landscape" / "landscape-spectra.svg").write_text("<svg/>")
    whole = {"task": {}, "score": 0.5, "curve": [], "cost": {}}
    put(runs, "demo/rte/rte-lamb.json", "2026-01-01", settings={"method": "lamb", "seed": 0}, **whole)  # not finished
    for method in ("adamw-32", "adamw", "lamb", "scala"):
        put(runs, f"demo/mrpc/mrpc-{method}.json", "2026-01-01", settings={"method": method, "seed": 0}, **whole)
    put(runs, "glue/sst2/held.json", "2026-01-01", settings={"held_out": 0.1})
    found = records.gather(results, runs, tmp_path / "data")
    assert {record.name: record.fresh for record in found} == {
        **{f"demo/mrpc/mrpc-{method}.json": True for method in ("adamw-32", "adamw", "lamb", "scala")},
        "bench.json": False,
        "theory/theory.json": True,
        "landscape/landscape.json": True,
        "landscape/landscape-spectra.svg": True,
    }
    assert {json.loads((tmp_path / "data" / name).read_text())["of"] for name in ("bench.json",)} == {"kept"}
    assert json.loads((tmp_path / "data" / "theory/theory.json").read_text())["of"] == "runs"


def test_words_come_from_one_place(tmp_path):
    page = tmp_path / "one.md"
    page.write_text(
        "# A\nx\n## What we chose\nsee [b](b.md), [c](https://c.org)\n### more\n| a |\n|---|\n| <b> |\n## Next\ny\n"
    )
    text = prose.section("What we", tmp_path / "none.md", page)
    shown = prose.html(text)
    assert "see b, " in shown
    assert '<a href="https://c.org">c</a>' in shown
    assert "<h4>more</h4>" in shown
    assert "&lt;b&gt;" in shown
    assert "−0.4 [−1, 7.3e−06], 3-5 <code>-1</code>" in prose.html("-0.4 [-1, 7.3e-06], 3-5 `-1`")
    assert "y" not in prose.html(text).replace("tbody", "")
    assert prose.section("Nowhere", page) is None


def test_the_citation_is_that_of_the_file(tmp_path):
    cited = prose.citation(site.ROOT / "CITATION.cff")
    assert "Zhang, Minjia; Naresh, Niranjan Uma; He, Yuxiong (2022)" in cited["text"]
    assert re.search(r"@misc\{scala,.*eprint\s+= \{2201\.12469\}", cited["bibtex"], re.DOTALL)
    assert cited["bibtex"].count("{") == cited["bibtex"].count("}")
    (tmp_path / "CITATION.cff").write_text("title: only\n")
    with pytest.raises(ValueError, match=r"CITATION.cff lacks what a citation needs"):
        prose.citation(tmp_path / "CITATION.cff")


# In a browser

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
PLAYED = [(0, 0.5, 1), (60, 0.5, 2), (30, 0.05, 1), (0, 0.9, 3), (90, 1.3, 5), (120, 0.3, 1), (7, 0.35, 4)]
MOVED = {"delay": 40, "radius": 0.8, "steps": 3, "round": 100}

# Runs in every page before its own script, and tells the page around it what it saw.
INSIDE = """<script>
const errors = [];
addEventListener("error", ({ message, target }) => errors.push(message || `not loaded: ${target.src || target.href}`), true);
addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));
console.error = (...words) => errors.push(words.join(" "));
addEventListener("load", () => {
  document.querySelectorAll("details").forEach((one) => (one.open = true));
  const found = { width: innerWidth, needed: document.documentElement.scrollWidth, page: location.pathname.split("/").pop() };
  const paper = () => getComputedStyle(document.body).backgroundColor;
  const scrolls = ".wide, .statement, .step, pre, .full, math";
  const beyond = (one) => one.getBoundingClientRect().right > innerWidth && !one.closest(scrolls);
  found.beyond = [...document.querySelectorAll("main *")].filter(beyond).map((one) => one.outerHTML.slice(0, 80));
  found.papers = [paper()];
  document.getElementById("theme").click();
  found.papers.push(paper());
  const game = document.getElementById("game");
  if (game) {
    const data = JSON.parse(document.getElementById("game-data").textContent);
    found.agreement = game.querySelector('[data-show="agreement"]').textContent;
    found.played = PLAYED.map(([delay, radius, steps]) => playGame(data, { delay, radius, steps }));
    for (const [name, value] of Object.entries(MOVED)) game.querySelector(`[name=${name}]`).value = value;
    game.querySelector("[name=round]").dispatchEvent(new Event("input", { bubbles: true }));
    const cells = [...game.querySelectorAll("td[data-show]")];
    found.table = Object.fromEntries(cells.map((cell) => [cell.dataset.show, cell.textContent]));
    found.outputs = [...game.querySelectorAll("output")].map((output) => output.value);
    game.querySelector("button[data-set]").click();
    found.preset = [...game.querySelectorAll("output")].map((output) => output.value);
    found.drawn = [...game.querySelectorAll("svg")].map((svg) => svg.childElementCount);
  }
  setTimeout(() => parent.postMessage({ ...found, errors }, "*"), 300);
});
</script>"""

AROUND = """<!doctype html><meta charset="utf-8"><pre id="told"></pre>
<script>
const told = [];
addEventListener("message", (event) => {
  told.push(event.data);
  document.getElementById("told").textContent = JSON.stringify(told);
});
</script>
"""


@pytest.fixture(scope="module")
def told(report, tmp_path_factory):
    """What the pages say of themselves in a browser, at the width of a phone and of a desk."""
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    folder = tmp_path_factory.mktemp("browser") / "site"
    shutil.copytree(report, folder)
    inside = INSIDE.replace("PLAYED", json.dumps(PLAYED)).replace("MOVED", json.dumps(MOVED))
    frames = ""
    for page in sorted(folder.glob("*.html")):
        page.write_text(
            page.read_text(encoding="utf-8").replace('<meta charset="utf-8">', f'<meta charset="utf-8">{inside}', 1)
        )
        frames += "".join(
            f'<iframe src="{page.name}" style="width: {w}px; height: 800px; border: 0"></iframe>' for w in (360, 1280)
        )
    (folder / "around.html").write_text(AROUND + frames)
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=20000"]
    command = [
        CHROMIUM,
        *options,
        f"--user-data-dir={folder.parent / 'profile'}",
        "--dump-dom",
        (folder / "around.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    words = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)[1]
    found = json.loads(words.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert sorted((one["page"], one["width"]) for one in found) == sorted(
        (name, width) for name in pages_of(report) for width in (360, 1280)
    )
    return found


def test_no_error_in_the_console_and_nothing_sticks_out(told):
    for one in told:
        assert one["errors"] == [], one["page"]
        assert one["needed"] <= one["width"], f"{one['page']} at {one['width']}: {one['beyond']}"


def test_the_button_turns_light_into_dark(told):
    for one in told:
        assert len(set(one["papers"])) == 2, one["page"]


def test_the_page_plays_as_the_core_does(told):
    one = next(one for one in told if "played" in one)
    for settings, played in zip(PLAYED, one["played"], strict=True):
        core = toy_game.trajectory(*settings)
        for name in ("x", "y"):
            here, there = (torch.tensor(play[name], dtype=torch.float64) for play in (played, core))
            torch.testing.assert_close(here, there, rtol=0, atol=1e-9)
        assert played["gradients"][-1] == core["gradients"]
    assert float(one["agreement"]) < 1e-9


def test_the_table_of_the_game_shows_the_core_s_numbers(told):
    one = next(one for one in told if "table" in one)
    core = toy_game.trajectory(*(MOVED[name] for name in ("delay", "radius", "steps")))
    game, at = toy_game.problem(MOVED["radius"]), MOVED["round"]
    x = torch.tensor([core["x"][at]], dtype=torch.float64)
    noise = torch.tensor([core["y"][at - 1]], dtype=torch.float64).reshape(1, -1)
    samples = game.samples
    assert float(one["table"]["worst-0"]) == pytest.approx(game.phi(x).item() / samples, abs=5.1e-4)
    assert float(one["table"]["noisy-0"]) == pytest.approx(game.f(x, noise).item() / samples, abs=5.1e-4)
    assert float(one["table"]["clean-0"]) == pytest.approx(game.f(x, 0 * noise).item() / samples, abs=5.1e-4)
    assert one["table"]["gradients-0"] == str(at + (at - MOVED["delay"]) * MOVED["steps"])
    assert one["table"]["gradients-1"] == str(at)
    assert one["outputs"] == [str(value) for value in MOVED.values()]
    assert one["preset"] == ["60", "0.5", "2", "120"]
    assert min(one["drawn"]) > 20


def test_the_first_play_of_the_core_is_in_the_page(report):
    index = (report / "index.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="game-data">(.*?)</script>', index)[1])
    assert data["core"] == toy_game.trajectory(**toy_game.DEFAULTS)
    assert Path(report / "report.js").is_file()
