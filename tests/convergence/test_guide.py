"""The guide to adding a theorem, followed to the letter."""

import re
from pathlib import Path

from convergence import theorems
from convergence.check import check
from convergence.effort import FAST

GUIDE = Path(theorems.__file__).with_name("README.md").read_text(encoding="utf-8")


def test_the_theorem_of_the_guide_checks(tmp_path):
    source = "\n\n".join(re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL))
    names = {}
    exec(compile(source, "first_step.py", "exec"), names)  # our own text
    report = check(names["THEOREM"], FAST, tmp_path)
    assert report["failures"] == []
    assert (tmp_path / "first-step-radius.svg").exists()
    assert [step["kind"] for step in report["proof"]] == ["argued", "certified"]
