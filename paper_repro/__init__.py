"""The paper's claims, tested: tasks, encoders, experiments, runs and their comparison."""

import importlib.util

_NEEDED = "matplotlib jinja2 latex2mathml sympy hypothesis filelock markdown_it psutil pydantic yaml"
for _needed in _NEEDED.split():
    if importlib.util.find_spec(_needed) is None:
        raise ModuleNotFoundError(
            f"{_needed} is missing, which the experiments need: pip install 'scala-adapt[repro]'", name=_needed
        )
