"""The package as others get it: what is in the wheel, what it needs, what importing it costs, and how to cite it."""

import ast
import importlib.metadata
import importlib.util
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
    """The wheel, built from all of the repository's packages without a network by the setuptools that torch brings."""
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
    return archive


def files_below(folder):
    ours = [p for p in (folder / "scala").rglob("*") if p.is_file()]
    return {str(p.relative_to(folder)) for p in ours if "__pycache__" not in p.parts and not p.name.endswith(".partial")}


def test_the_wheel_holds_scala_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        (commands,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    found = {name for name in names if name.startswith("scala/")}
    assert found == files_below(ROOT)
    assert {"scala/py.typed", "scala/adapt/__main__.py"} <= found
    (info,) = {name.split("/")[0] for name in names - found}
    assert info.endswith(".dist-info")
    assert f"{info}/licenses/LICENSE" in names
    assert commands.split() == ["[console_scripts]", "scala-adapt", "=", "scala.adapt:main"]


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """A new environment with the wheel and what it depends on, and nothing of this checkout."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    find = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    # Paths of a .pth are searched, but their own .pth files, such as an editable install's, are not read.
    packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    Path(site, "dependencies.pth").write_text("\n".join(packages), encoding="utf-8")
    install = ["install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", str(wheel)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), *install], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def run_elsewhere(folder, *command):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_environment_gets_scala_and_no_other_names(elsewhere, tmp_path):
    program = """
import importlib.util
print(importlib.util.find_spec("scala.trainer").origin)
print([importlib.util.find_spec(name) for name in ("convergence", "toy_problems", "paper_repro", "tests")])
"""
    done = run_elsewhere(tmp_path, elsewhere / "python", "-c", program)
    assert done.returncode == 0, done.stderr
    where, names = done.stdout.splitlines()
    assert where.startswith(str(elsewhere.parent))
    assert names == "[None, None, None, None]"


def test_the_wheels_command_trains(elsewhere, encoder, tmp_path):
    rows = "".join(f"{'abc' if i % 2 else 'fgh'} word,{'yes' if i % 2 else 'no'}\n" for i in range(40))
    (tmp_path / "train.csv").write_text(f"text,label\n{rows}")
    options = "--train train.csv --output out --max_steps 2 --per_device_train_batch_size 8 --use_cpu"
    done = run_elsewhere(tmp_path, elsewhere / "scala-adapt", "--model", encoder, *options.split())
    assert done.returncode == 0, done.stderr
    assert {"model.safetensors", "scores.json", "options.yaml", "confusion.png"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }


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
        module = {"markdown-it-py": "markdown_it", "markupsafe": None}.get(name, name)  # jinja2 has the last
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
