"""Certificates as plain data, for the stand-alone `convergence.verifier`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sympy import Expr, Symbol

from convergence.certificate import Argument, Certificate, Identity, Inequality, Repeat, Square, Sum, Term, VectorSymbol
from convergence.evidence import check_letters


def document(
    theorem: str,
    assumptions: Mapping[str, Expr],
    steps: Sequence[Certificate | Argument],
    nonzero: Mapping[str, Expr] | None = None,
) -> dict[str, Any]:
    """A theorem's certificates as plain data: every expression is text.

    Args:
        theorem: its name.
        assumptions: what is taken to be >= 0, by name.
        steps: in order; identities that are not rational are left out, and arguments that give nothing.
        nonzero: what is taken not to be 0, by name.

    Returns:
        A dict that ``json.dump`` takes.

    Raises:
        Rejected: two different symbols have one name.
    """
    nonzero = nonzero or {}
    written: list[dict[str, Any]] = []
    used: list[Expr] = [*assumptions.values(), *nonzero.values()]
    for step in steps:
        if isinstance(step, Argument):
            if step.gives is not None:
                written.append({"name": step.name, "given": str(step.gives)})
                used.append(step.gives)
        elif not isinstance(step, Identity) or step.is_rational:
            written.append({"name": step.name, "region": _texts(step.region)} | _step(step))
            used += [*step.region, *step.region.values(), *_expressions(step)]
    letters: dict[str, Symbol] = {}
    check_letters(theorem, used, letters, scalars=False)
    kinds: dict[str, list[str]] = {"vectors": [], "positive": [], "nonnegative": [], "real": []}
    for symbol in sorted(set().union(*(expression.free_symbols for expression in used)), key=str):
        if isinstance(symbol, VectorSymbol):
            kind = "vectors"
        else:
            kind = "positive" if symbol.is_positive else "nonnegative" if symbol.is_nonnegative else "real"
        kinds[kind].append(str(symbol))
    return {
        "theorem": theorem,
        **kinds,
        "assumptions": {name: str(expression) for name, expression in assumptions.items()},
        **({"nonzero": {name: str(expression) for name, expression in nonzero.items()}} if nonzero else {}),
        "steps": written,
    }


def _texts(region: Mapping[Symbol, Expr]) -> dict[str, str]:
    return {str(k): str(v) for k, v in region.items()}


def _step(step: Certificate) -> dict[str, Any]:
    if isinstance(step, Identity):
        return {"left": str(step.left), "right": str(step.right)}
    if isinstance(step, Inequality):
        return {"gap": str(step.gap), "terms": [_written(term) for term in step.terms]}
    items = {
        "gap": str(step.gap),
        "count": str(step.count),
        "constant": sorted(map(str, step.constant)),
        "next": _texts(step.next),
    }
    if isinstance(step, Repeat):
        parts = {part: str(getattr(step, part)) for part in ("ratio", "now", "power", "first", "last")}
        return items | parts | {"repeats": step.of, "grows": "yes" if step.grows else "no"}
    summed = {"sums": "total", "means": "mean"}
    return items | {
        "of": step.of,
        "telescopes": [
            {"coefficient": str(c), "now": str(now), "first": str(first), "last": str(last)}
            for c, now, first, last in step.telescopes
        ],
        **{
            kind: [{"coefficient": str(c), "each": str(each), name: str(letter)} for c, each, letter in getattr(step, kind)]
            for kind, name in summed.items()
        },
        "rest": str(step.rest),
    }


def _expressions(step: Certificate) -> list[Expr]:
    """All that a step is made of, vectors too."""
    if isinstance(step, Identity):
        return [step.left, step.right]
    if isinstance(step, Repeat):
        own = (step.ratio, step.now, step.power, step.first, step.last)
        return [step.count, *step.constant, *step.next, *step.next.values(), *own]
    if isinstance(step, Sum):
        parts = [part for group in (step.telescopes, step.sums, step.means) for row in group for part in row]
        return [step.rest, step.count, *step.constant, *step.next, *step.next.values(), *parts]
    facts = [fact.value for term in step.terms for fact in term.facts if not isinstance(fact, str)]
    return [step.gap, *(term.multiplier for term in step.terms), *facts]


def _written(term: Term) -> dict[str, Any]:
    facts: list[Any] = []
    for fact in term.facts:
        if isinstance(fact, str):
            facts.append(fact)
        elif isinstance(fact, Square):
            facts.append({"square": str(fact.expression)})
        else:
            facts.append({"norm": str(fact.vector)})
    return {"multiplier": str(term.multiplier), "facts": facts}
