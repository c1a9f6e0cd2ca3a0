"""The packages of the optional extra ``pep``, and what is stored for want of them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

STORED = Path(__file__).parent / "certificates"
"""Found with the solver, as data; `verifier` accepts all of them but false_bound.json, which proves nothing."""


def pepit() -> Any:
    """PEPit, with the parts that it does not load by itself."""
    for part in ("functions", "operators", "primitive_steps"):
        optional(f"PEPit.{part}")
    return optional("PEPit")


def optional(module: str) -> Any:
    """Import a module of the extra ``pep``, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f"{module} is missing: the cross-check by performance estimation needs pip install 'scala-adapt[pep]'"
        raise ModuleNotFoundError(message, name=module) from error


def stored(name: str = "projected_ascent") -> dict[str, Any]:
    """A stored certificate, for the stand-alone verifier.

    Args:
        name: "projected_ascent" (30 of them, `duals.as_document`), "gradient_descent" (the `false_bound` record's proof of
            the truth) or "false_bound" (its false proof, and the record under "record").
    """
    return json.loads((STORED / f"{name}.json").read_text(encoding="utf-8"))
