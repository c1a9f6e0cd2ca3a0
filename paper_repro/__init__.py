"""The paper's claims, tested: tasks, encoders, experiments, runs and their comparison.

Rooms, each of which may import those above it: `record` and `command` (files, commands); `data` (tasks, encoders) and `rivals`
(other methods); `runs` (an experiment's file, a run, its result); `analysis` (scores and intervals, tables, claims); `sweep`
(all runs of an experiment, and its page); the studies `bench`, `landscape`, `onset`, `scaling`; `report` and `faults`.
"""

import importlib.util

_NEEDED = "matplotlib jinja2 latex2mathml sympy hypothesis filelock markdown_it psutil pydantic yaml"
for _needed in _NEEDED.split():
    if importlib.util.find_spec(_needed) is None:
        raise ModuleNotFoundError(
            f"{_needed} is missing, which the experiments need: pip install 'scala-adapt[repro]'", name=_needed
        )
