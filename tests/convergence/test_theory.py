"""The command that checks everything, and the pages that it writes."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from convergence import hunt, page, verifier
from convergence.check import check
from convergence.effort import FAST
from convergence.theorems import all_theorems
from convergence.theory import main

NAME = "projected-ascent"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("theory")
    assert main(["--fast", "--only", NAME, "--out", str(out), "--workers", "1"]) == 0
    return out


def test_the_numbers_are_there(folder):
    theory = json.loads((folder / "theory.json").read_text())
    assert theory["failures"] == []
    assert theory["instances"] > FAST.instances
    assert theory["tampered"]["planted"] == theory["tampered"]["rejected"] > 0
    assert theory["misstated"]["planted"] == theory["misstated"]["rejected"] > 0
    assert theory["provenance"]["versions"]["sympy"]
    (report,) = theory["theorems"]
    for attack in report["attacks"]:
        assert attack["fallen"]["ratio"] > 1 >= attack["worst"]["ratio"] - 1e-9
    assert all(curve["tightness"][0] >= 1 for m in report["measurements"] for curve in m["curves"])


def test_finished_work_is_not_done_again_and_damage_is(folder, capsys):
    arguments = ["--fast", "--only", NAME, "--out", str(folder), "--workers", "1"]
    stored = folder / "reports" / f"{NAME}.json"
    before = stored.stat().st_mtime_ns
    assert main(arguments) == 0
    assert "2 of 2 are there already" in capsys.readouterr().err
    assert stored.stat().st_mtime_ns == before
    stored.write_text(stored.read_text()[:100])
    assert main(arguments) == 0
    assert json.loads(stored.read_text())["result"]["failures"] == []


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (main, ["--only", "fermat"], "no theorem is called 'fermat'; there are: "),
        (main, ["--workers", "0"], "--workers must be at least 1, got 0"),
        (main, ["--out", __file__], "is a file; give a folder"),
        (hunt.main, ["--minutes", "-1"], "--minutes must be positive, got -1"),
        (hunt.main, ["--out", __file__], "is a file; give a folder"),
    ],
)
def test_bad_arguments_are_named(command, arguments, message, capsys):
    with pytest.raises(SystemExit):
        command(arguments)
    assert message in capsys.readouterr().err


def test_certificates_written_are_those_the_verifier_accepts(folder):
    assert verifier.main([str(path) for path in (folder / "certificates").glob("*.json")]) == 0
    assert (folder / "verifier.py").read_bytes() == Path(verifier.__file__).read_bytes()


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.images, self.words = set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids.add(found.get("id"))
        if tag == "a":
            self.links.append(found["href"])
        if tag == "img":
            self.images.append(found)
        assert tag not in ("script", "link", "iframe")

    def handle_data(self, data):
        self.words.append(data)


def test_pages_need_no_network_and_every_link_resolves(folder):
    pages = {name: Page((folder / name).read_text(encoding="utf-8")) for name in ("index.html", "trust.html")}
    for one in pages.values():
        for link in one.links:
            name, _, anchor = link.partition("#")
            target = pages[name] if name else one
            assert not anchor or anchor in target.ids, link
        for image in one.images:
            assert image["src"].startswith("data:image/svg+xml")
            assert image["alt"]
    assert pages["index.html"].images


def test_every_theorem_renders(tmp_path):
    """Without running attacks or plays: an empty report each, so that only the page is tested."""
    theorems = all_theorems()
    reports = []
    for theorem in theorems:
        kinds = [{"step": step.name, "kind": "certified"} for step in theorem.proof]
        reports.append(
            {
                "name": theorem.name,
                "proof": kinds,
                "attacks": [],
                "measurements": [],
                "instances": 0,
                "failures": [],
                "tightness": None,
            }
        )
    nothing = {"instances": 0, "certificates": 0, "stand_alone": 0, "seconds": 0.0, "tampered": None, "faults": [], "pep": None}
    provenance = {"hardware": "none", "commit": None, "finished": "never", "versions": {}}
    theory = {"theorems": reports, "failures": ["a failure is shown"], "effort": "no", "provenance": provenance, **nothing}
    page.write(tmp_path, theory, theorems)
    shown = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    text = "".join(shown.words)
    assert "a failure is shown" in text
    assert "$" not in text, "a formula without its second dollar"
    assert "\\" not in text, "LaTeX that was not understood"
    for theorem in theorems:
        assert theorem.name in shown.ids


def test_a_failed_check_is_reported_by_name():
    theorem = next(t for t in all_theorems() if t.name == NAME)
    attack = theorem.attacks[0]
    wrong = replace(attack.bound, expression=0.95 * attack.bound.expression)
    failures = check(replace(theorem, attacks=(replace(attack, bound=wrong),), measurements=()), FAST)["failures"]
    assert len(failures) == 1
    assert failures[0].startswith(f"{NAME}: attack 'rate' broke the bound")


def test_the_hunt_goes_on_with_the_next_seed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hunt, "all_theorems", lambda: [t for t in all_theorems() if t.name == NAME])
    monkeypatch.setattr(hunt, "HUNT", FAST)
    log = tmp_path / "rounds.jsonl"
    assert hunt.main(["--minutes", "0.02", "--out", str(tmp_path)]) == 0
    with log.open("a") as file:
        file.write('{"seed": 99, "cut off by a k')
        file.write("\n")
    first = max(entry["seed"] for entry in hunt._lines(log))
    assert hunt.main(["--minutes", "0.02", "--out", str(tmp_path)]) == 0
    seeds = [entry["seed"] for entry in hunt._lines(log)]
    assert seeds == list(range(1, len(seeds) + 1))
    assert len(seeds) > first
    assert "nothing broke" in capsys.readouterr().out
