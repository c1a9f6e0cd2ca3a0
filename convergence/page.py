"""The pages: every theorem with its proof, attacks and figures, and what has to be trusted. Files that need no network."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import sympy
from jinja2 import Environment, PackageLoader, StrictUndefined
from latex2mathml.converter import convert
from markupsafe import Markup, escape

from convergence.bound import Bound
from convergence.certificate import Fact, Identity, Inequality, Norm2, Rejected, Repeat, Square, Sum, Term, norm2
from convergence.record import write_whole
from convergence.theorem import Theorem


def write(folder: Path, theory: Mapping[str, Any], theorems: Sequence[Theorem]) -> list[Path]:
    """Write ``index.html`` and ``trust.html``.

    Args:
        folder: where; figures are taken from its ``figures/`` and put into the page.
        theory: what ``python -m convergence`` computed, as in its ``theory.json``.
        theorems: the objects it was computed from.

    Returns:
        The files.
    """
    environment = renderer(partial(_embedded, folder / "figures"))
    written = []
    for file in ("index.html", "trust.html"):
        path = folder / file
        write_whole(path, environment.get_template(f"{file}.j2").render(contents(theory, theorems)))
        written.append(path)
    return written


def renderer(figure: Callable[[str], str], theorems_page: str = "index.html") -> Environment:
    """The templates of the two pages.

    Args:
        figure: a figure's file name -> what an image's ``src`` shall be.
        theorems_page: where the other page finds the theorems.
    """
    environment = Environment(
        loader=PackageLoader("convergence"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"rich": rich, "formula": formula, "latex": sympy.latex, "number": number}
    environment.globals |= {
        "proof": _proof,
        "statements": _statements,
        "statement_of": _statement_of,
        "equations": _equations,
        "figure": figure,
        "theorems_page": theorems_page,
    }
    return environment


def contents(theory: Mapping[str, Any], theorems: Sequence[Theorem]) -> dict[str, Any]:
    """What the templates read; arguments as in `write`."""
    reports = {report["name"]: report for report in theory["theorems"]}
    shown = [(theorem, reports[theorem.name]) for theorem in theorems if theorem.name in reports]
    return {"theory": theory, "shown": shown, "titles": _titles(theorems)}


def formula(latex: str, block: bool = False) -> Markup:
    """LaTeX as MathML, which browsers render by themselves."""
    return Markup(convert(latex, display="block" if block else "inline"))  # made from our own text


def rich(text: str) -> Markup:
    """Words with formulas between dollars."""
    parts = text.split("$")
    return Markup("").join(formula(part) if i % 2 else escape(part) for i, part in enumerate(parts))


def number(value: Any) -> str:
    """Four digits, which is more than a reader needs."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return "[" + ", ".join(number(v) for v in value) + "]"
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"


def _statement_of(theorem: Theorem, bound: Bound) -> Markup:
    """A bound as a formula, or why it is not shown: a statement that its proof does not give is not rendered."""
    try:
        return formula(theorem.statement(bound), block=True)
    except Rejected as error:
        return Markup('<p class="bad">not shown: {}</p>').format(str(error))


def _equations(theorem: Theorem) -> list[Markup]:
    """Every fact as a formula, or why it is not shown."""
    rows = []
    for fact in theorem.facts:
        try:
            rows.append(formula(theorem.equation(fact), block=True))
        except Rejected as error:
            rows.append(Markup('<p class="bad">not shown: {}</p>').format(str(error)))
    return rows


def _statements(theorem: Theorem) -> list[dict[str, Any]]:
    """Every bound with its hypotheses, the certificates that give it, and what their letters are in it."""
    rows = []
    for bound in theorem.bounds:
        letters: dict[Any, Any] = {}
        for proof in bound.proofs:
            letters |= {k: v for k, v in (*proof.letters.items(), *proof.stands.items()) if k != v}
        rows.append(
            {
                "shown": _statement_of(theorem, bound),
                "where": list(bound.where),
                "by": list(dict.fromkeys(proof.by for proof in bound.proofs)),
                "letters": [f"{sympy.latex(k)} = {sympy.latex(v)}" for k, v in letters.items()],
            }
        )
    return rows


def _items(step: Sum | Repeat) -> list[str]:
    """What a sum or a repetition puts together, as formulas and words."""
    over = rf"\text{{{step.of}}}"
    constant = r",\; ".join(sympy.latex(s) for s in step.constant)
    rows = [rf"from $\left[{over}\right]$, for each of ${sympy.latex(step.count)}$ items; the same for each: ${constant}$"]
    if step.next:
        moves = r",\; ".join(rf"{sympy.latex(k)} \to {sympy.latex(v)}" for k, v in step.next.items())
        rows.append(f"at the next item: ${moves}$")
    if isinstance(step, Repeat):
        named = {step.power: step.ratio**step.count, step.first: step.now, step.last: step.now}
        rows.append(
            "; ".join(f"${sympy.latex(k)}$: ${sympy.latex(v)}$" for k, v in named.items()) + ", at first and in the end"
        )
        return rows
    for _, now, first, last in step.telescopes:
        rows.append(f"${sympy.latex(first)}$, ${sympy.latex(last)}$: ${sympy.latex(now)}$ at first and in the end")
    for kind, parts in (("sum", step.sums), ("mean", step.means)):
        rows += [f"${sympy.latex(letter)}$: the {kind} of ${sympy.latex(each)}$" for _, each, letter in parts]
    return rows


def _proof(theorem: Theorem) -> list[dict[str, Any]]:
    """A row a step: name, kind, words, formulas."""
    rows = []
    for step in theorem.proof:
        row: dict[str, Any] = {"name": step.name, "says": step.says, "claim": None, "because": (), "where": None, "items": ()}
        if isinstance(step, Inequality):
            row |= {"claim": sympy.latex(step.gap) + r" \;\ge\; 0", "because": [_term(term) for term in step.terms]}
        elif isinstance(step, Sum | Repeat):
            row |= {"claim": sympy.latex(step.gap) + r" \;\ge\; 0", "items": _items(step)}
        elif isinstance(step, Identity):
            row |= {"claim": sympy.latex(step.left) + r" \;=\; " + sympy.latex(step.right)}
        if isinstance(step, Inequality | Identity | Sum | Repeat) and step.region:
            row["where"] = r",\quad ".join(f"{sympy.latex(k)} = {sympy.latex(v)}" for k, v in step.region.items())
        row["source"] = getattr(step, "source", "")
        rows.append(row)
    return rows


def _term(term: Term) -> str:
    facts = "".join(rf"\left[{_fact(fact)}\right]" for fact in term.facts)
    if term.multiplier == 1 and facts:
        return facts
    return (
        sympy.latex(term.multiplier) + facts
        if term.multiplier.is_Atom or not facts
        else (rf"\left({sympy.latex(term.multiplier)}\right){facts}")
    )


def _fact(fact: Fact) -> str:
    if isinstance(fact, Square):
        return rf"\left({sympy.latex(fact.expression)}\right)^2"
    return sympy.latex(norm2(fact.vector)) if isinstance(fact, Norm2) else rf"\text{{{fact}}}"


def _embedded(folder: Path, name: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode((folder / name).read_bytes()).decode()


def _titles(theorems: Sequence[Theorem]) -> dict[str, str]:
    return {theorem.name: theorem.title for theorem in theorems}
