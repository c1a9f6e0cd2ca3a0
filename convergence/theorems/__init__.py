"""One theorem a file. A file here with a `Theorem` called ``THEOREM`` is found by itself."""

import importlib
import pkgutil
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from convergence.theorem import Theorem


def check_references(theorems: Sequence[Theorem]) -> None:
    """Whatever is said to be proved by another theorem is; raises `ValueError` where that is missing, or goes in a circle."""
    rests = {t.name: {a.proved_by for a in t.assumptions if a.proved_by} for t in theorems}
    for name, others in rests.items():
        if missing := sorted(others - rests.keys()):
            raise ValueError(f"{name}: an assumption is proved by {missing[0]!r}, and no theorem is called so")
    try:
        tuple(TopologicalSorter(rests).static_order())
    except CycleError as error:
        raise ValueError(f"theorems rest on one another in a circle: {' -> '.join(error.args[1])}") from error


def all_theorems() -> tuple[Theorem, ...]:
    """Every theorem of this folder, in the order of the page.

    Raises:
        ValueError: a theorem's name is not its file's, or two share a name.
    """
    found = []
    for module in pkgutil.iter_modules(__path__):
        theorem = importlib.import_module(f"{__name__}.{module.name}").THEOREM
        if theorem.name.replace("-", "_") != module.name:
            raise ValueError(f"the theorem of {module.name}.py is called {theorem.name!r}; use the file's name, with hyphens")
        found.append(theorem)
    check_references(found)
    return tuple(sorted(found, key=lambda theorem: (theorem.order, theorem.name)))
