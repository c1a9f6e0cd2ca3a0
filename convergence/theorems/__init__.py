"""One theorem a file. A file here with a `Theorem` called ``THEOREM`` is found by itself."""

import importlib
import pkgutil

from convergence.theorem import Theorem


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
    return tuple(sorted(found, key=lambda theorem: (theorem.order, theorem.name)))
