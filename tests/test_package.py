"""The package as others get it: what is in the wheel, what it needs, what importing it costs, and how to cite it."""

import ast
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("scala", "toy_problems", "convergence", "paper_repro")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.partial")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel's folder, unpacked; built without a network by the setuptools that torch brings."""
    setuptools = importlib.util.find_spec("setuptools")
    if setuptools is None or int(importlib.metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("building without a network needs setuptools 77 or later in the environment")
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=LEFT_OUT)
    for name in ("tests", "runs"):  # what must not get in
        (source / name).mkdir()
        (source / name / "__init__.py").touch()
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(built)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "absent from the `packages` configuration" not in done.stderr
    (archive,) = built.glob("*.whl")
    zipfile.ZipFile(archive).extractall(built / "site")
    return built / "site"


def files_below(folder):
    ours = [p for name in PACKAGES for p in (folder / name).rglob("*") if p.is_file()]
    return {str(p.relative_to(folder)) for p in ours if "__pycache__" not in p.parts and not p.name.endswith(".partial")}


def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(wheel):
    found = files_below(wheel)
    assert found == files_below(ROOT)
    assert {"scala/py.typed", "convergence/templates/index.html.j2", "paper_repro/claims.toml"} <= found
    assert {"paper_repro/experiments/main.toml", "paper_repro/results/bench.json"} <= found
    (info,) = wheel.glob("*.dist-info")
    assert {path.name for path in wheel.iterdir()} == {*PACKAGES, info.name}
    assert (info / "licenses" / "LICENSE").exists()


def test_outside_of_the_repository_the_wheel_works(wheel, tmp_path):
    program = """
        import json, sys
        from scala import Lamb, ScalaTrainer
        from scala.adapt import main as adapt
        from paper_repro.analysis import claims
        print(json.dumps([sys.modules[name].__file__ for name in ("scala", "scala.trainer", "paper_repro")]))
        claims.main([])
        adapt(["--help"])
    """
    environment = {**os.environ, "PYTHONPATH": str(wheel), "OMP_NUM_THREADS": "1"}
    code = "\n".join(line.strip() for line in program.splitlines())
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, rest = done.stdout.split("\n", 1)
    assert all(path.startswith(str(wheel)) for path in json.loads(first))
    assert "times fewer steps" in rest  # a claim, from results and experiment files in the wheel
    assert "--noise_radius" in rest


def test_importing_the_core_costs_torch_and_nothing_more():
    code = "import torch, sys; before = set(sys.modules); import scala; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    new = {name.split(".")[0] for name in done.stdout.split()}
    assert "scala" in new
    assert new - set(sys.stdlib_module_names) == {"scala"}


def test_the_trainers_names_are_found_when_asked_for():
    import scala
    from scala.trainer import ScalaConfig, ScalaTrainer

    assert (scala.ScalaConfig, scala.ScalaTrainer) == (ScalaConfig, ScalaTrainer)
    assert all(hasattr(scala, name) for name in scala.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Scala'"):
        scala.Scala  # noqa: B018


def distributions_imported(*packages):
    """The distributions behind every import statement of some packages, as pyproject.toml spells them."""
    found = set()
    for path in (p for name in packages for p in (ROOT / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    known = importlib.metadata.packages_distributions()
    return {known.get(name, [name])[0].lower() for name in found - set(sys.stdlib_module_names) - {*PACKAGES, "__future__"}}


def required(*extras):
    """The distributions that come with the extras and without any, an extra of our own inside an extra resolved."""
    stated = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    names = {re.split(r"[<>=!~\[ ;]", line)[0].lower() for line in stated}
    inner = {extra for line in stated if (match := re.fullmatch(r"scala-adapt\[(.+)\]", line)) for extra in match[1].split(",")}
    return (names | (required(*inner) if inner else set())) - {"scala-adapt"}


def test_what_a_package_imports_is_what_its_extra_brings():
    assert distributions_imported("scala") | {"accelerate"} == required()  # transformers' Trainer needs accelerate
    assert distributions_imported("toy_problems", "convergence") <= required("theory", "pep")
    peers = {
        "timm",
        "torch-optimizer",
        "pytorch-optimizer",
        "cvxpy",
    }  # measured beside ours if they are there; cvxpy is PEPit's
    assert distributions_imported("paper_repro") - peers <= required("repro")


def test_without_the_extra_the_experiments_name_it():
    for name in required("repro") - required():  # the theory's are among them
        module = {"markdown-it-py": "markdown_it", "pyyaml": "yaml", "markupsafe": None}.get(name, name)  # jinja2 has the last
        if module is None:
            continue
        hidden = f"import importlib.util as u; find = u.find_spec; u.find_spec = lambda n: None if n == {module!r} else find(n)"
        done = subprocess.run(
            [sys.executable, "-c", f"{hidden}; import paper_repro"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        said = f"{module} is missing, which the experiments need: pip install 'scala-adapt[repro]'"
        assert done.returncode == 1
        assert done.stderr.strip().endswith(said)


def test_the_versions_in_use_are_pinned():
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split()}
    assert required(*PROJECT["optional-dependencies"]) <= pinned


def test_the_citation_is_complete_and_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type"} <= set(citation)  # the schema's required keys, and what it describes
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert all("name" in author or "family-names" in author for author in citation["authors"])
    (paper,) = citation["references"]
    assert {"type", "title", "authors", "year"} <= set(paper)
    assert "arXiv:2201.12469" in [identifier["value"] for identifier in paper["identifiers"]]


def test_the_changelog_has_the_version_or_says_it_is_unreleased():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\]", text, flags=re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert PROJECT["version"] in versions or f"{PROJECT['version']} will be the first release" in text
