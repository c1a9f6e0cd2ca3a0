"""Planted faults: one wrong sign, constant or multiplier, and the name of the check that must notice.

A check that cannot fail says nothing. Each fault here changes one line of the source, in a process of its own, and the named
theorem is checked there; the fault is caught if that check fails. Multipliers of certificates are changed one by one as well.
"""

from __future__ import annotations

import copy
import importlib.abc
import importlib.machinery
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Any

import sympy

from convergence.bound import Bound
from convergence.theorem import Theorem


@dataclass(frozen=True)
class Fault:
    """One changed line.

    Attributes:
        name: what is wrong, in words.
        module: where.
        right: the source text, which must occur exactly once.
        wrong: what takes its place.
        caught_by: the theorem whose check must fail.
    """

    name: str
    module: str
    right: str
    wrong: str
    caught_by: str


FAULTS = (
    Fault(
        "the follower descends",
        "scala.adversary",
        "noise + self.step_size * gradient",
        "noise - self.step_size * gradient",
        "projected-ascent",
    ),
    Fault(
        "the regulariser pushes outwards",
        "scala.adversary",
        "gradient - self.regularizer * noise",
        "gradient + self.regularizer * noise",
        "regularizer",
    ),
    Fault(
        "a warm start forgets",
        "scala.adversary",
        "noise[i][exists] = self.memory[key].to(noise)",
        "noise[i][exists] = 0 * self.memory[key].to(noise)",
        "warm-start",
    ),
    Fault(
        "one ascent step too few",
        "scala.adversary",
        "for _ in range(self.steps):",
        "for _ in range(max(1, self.steps - 1)):",
        "projected-ascent",
    ),
    Fault(
        "noise leaves its ball",
        "scala.balls",
        "return y * _rows(shrink, y)",
        "return y",
        "no-concavity",
    ),
    Fault(
        "the follower comes a round late",
        "scala.game",
        "self.rounds >= self.delay",
        "self.rounds > self.delay",
        "delay",
    ),
    Fault(
        "the leader answers the clean loss",
        "scala.game",
        "adversarial = objective(response.noise)",
        "adversarial = objective(0 * response.noise)",
        "restart",
    ),
    Fault(
        "the leader climbs",
        "scala.lamb.tensorwise",
        'x.addcmul_(u, ratio, value=-group["lr"] * scale)',
        'x.addcmul_(u, ratio, value=group["lr"] * scale)',
        "scala-rate",
    ),
    Fault(
        "the trust ratio forgets to normalise",
        "scala.lamb.algorithm",
        "torch.where((phi > 0) & (u_norm > 0), phi / u_norm, 1.0)",
        "torch.where((phi > 0) & (u_norm > 0), phi, 1.0)",
        "stall",
    ),
    Fault(
        "phi leaves its bounds",
        "scala.lamb.algorithm",
        "phi = x_norm.clamp(*dialect.phi_bounds)",
        "phi = x_norm.clamp(dialect.phi_bounds[0])",
        "scala-rate",
    ),
    Fault(
        "momentum with its weights exchanged",
        "scala.lamb.tensorwise",
        "m = layer.m.lerp_(grad, 1 - beta1)",
        "m = layer.m.lerp_(grad, beta1)",
        "momentum",
    ),
    Fault(
        "a second moment without its root",
        "scala.lamb.tensorwise",
        "u = v.sqrt().add_(eps)",
        "u = v.clone().add_(eps)",
        "second-moment",
    ),
    Fault(
        "a constant of the rate, too small",
        "convergence.theorems.scala_rate",
        "C_2: Rational(1, 2)",
        "C_2: Rational(2, 5)",
        "scala-rate",
    ),
    Fault(
        "a constant of Danskin's theorem, too small",
        "convergence.theorems.danskin",
        "_CURVATURE, l**2 / mu",
        "_CURVATURE, 0.9 * l**2 / mu",
        "danskin",
    ),
    Fault(
        "a multiplier of a certificate, wrong",
        "convergence.theorems.momentum",
        "Term(e / 2, Norm2(o + k))",
        "Term(e / 3, Norm2(o + k))",
        "momentum",
    ),
    Fault(
        "a toy problem claims to be more concave than it is",
        "toy_problems.quadratic",
        "mu=spectrum[:, 0]",
        "mu=spectrum[:, -1]",
        "projected-ascent",
    ),
)


@dataclass(frozen=True)
class Misstatement:
    """A statement that its proof does not give.

    Attributes:
        name: what is wrong, in words.
        theorem: whose.
        bound: which.
        right: part of the bound's right-hand side as sympy writes it, with its constants' names; must occur exactly once.
        wrong: what takes its place.
    """

    name: str
    theorem: str
    bound: str
    right: str
    wrong: str

    def of(self, bound: Bound) -> Bound:
        """The bound, changed."""
        text = str(bound.expression)
        if text.count(self.right) != 1:
            raise ValueError(f"{self.theorem}, {self.bound} does not have exactly one {self.right!r}: {text}")
        letters = {str(s): s for s in bound.expression.free_symbols | set(bound.constants)}
        return replace(bound, expression=sympy.sympify(text.replace(self.right, self.wrong), locals=letters))


MISSTATEMENTS = (
    Misstatement("descent's term x 0.7", "gradient-descent-ascent", "rate", "2*D/eta", "7*D/(5*eta)"),
    Misstatement("the start's term x 0.7", "gradient-descent-ascent", "rate", "l**2*r_0**2", "7*l**2*r_0**2/10"),
    Misstatement("C_3 a quarter", "momentum", "rate", "C_3", "C_3/4"),
    Misstatement("C_4 half", "momentum", "rate", "C_4", "C_4/2"),
    Misstatement("C_5 half", "momentum", "rate", "C_5", "C_5/2"),
    Misstatement("C_6 a thousandth", "momentum", "rate", "C_6", "C_6/1000"),
    Misstatement("4 becomes 2", "momentum", "tuned", "C_1", "C_1/2"),
    Misstatement("the noise x 1/1000", "second-moment", "rate", "C_3", "C_3/1000"),
    Misstatement("the bias x 1/1000", "second-moment", "rate", "C_4", "C_4/1000"),
    Misstatement("alpha_u^2/alpha_l becomes alpha_u", "scala-rate", "rate", "alpha_u**2*eta/alpha_l", "alpha_u*eta"),
    Misstatement("D/alpha_l becomes D/alpha_u", "scala-rate", "rate", "(T*alpha_l*eta)", "(T*alpha_u*eta)"),
    Misstatement("root and layers change places", "warm-start", "mean distance", "alpha_u*eta*sqrt(h)", "sqrt(alpha_u)*eta*h"),
    Misstatement("the exponent is doubled", "delay", "mean inner error", "q**K", "q**(2*K)"),
    Misstatement("eps/a becomes eps a", "batch-size", "steps at batch b", "epsilon/a", "epsilon*a"),
    Misstatement("one kappa less", "danskin", "smoothness", "l**2/mu", "l"),
    Misstatement("the answer moves less", "danskin", "answer", "- 1", "- 2"),
    Misstatement("the block's root", "danskin", "block smoothness", "l_xy**2/mu", "l_xy**2/(2*mu)"),
    Misstatement("one step more", "projected-ascent", "contraction", "**K", "**(K + 1)"),
    Misstatement("the wrong curvature", "projected-ascent", "contraction", "mu*rho", "mu*rho/2"),
    Misstatement(
        "the follower's noise without kappa", "stochastic-gradient-descent-ascent", "rate", "kappa*sigma_y", "sigma_y"
    ),
    Misstatement("the noise costs half", "normalized-step", "noise, simple form", "C", "C/2"),
    Misstatement("the bias costs once", "normalized-step", "noise and bias", "C*e", "C*e/2"),
    Misstatement("the root without its 2", "scala-rate", "rate at the best step size", "sqrt(2)", "1"),
    Misstatement("sharper by a step", "restart", "inner error", "q**K", "q**(K + 1)"),
    Misstatement("mu squared", "restart", "inner error", "/mu", "/mu**2"),
    Misstatement("no geometric sum", "warm-start", "every visit", "(1 - q**K)", "1"),
    Misstatement("a thousandth of the gap", "regularizer", "gap", "C_1", "C_1/1000"),
    Misstatement("the radius for the diameter", "no-concavity", "no concavity", "C_2", "C_2/2"),
    Misstatement("the follower's gap counts half", "moreau-envelope", "rate", "C_3", "C_3/2"),
    Misstatement("stuck higher than it is", "stall", "envelope gradient", "sqrt(2)", "2"),
    Misstatement("the coupling counts half", "separability", "layer-wise smoothness", "C*b", "C*b/2"),
    Misstatement("no order of play", "time-scale", "follower first", "a*eta + 1", "2*a*eta + 1"),
    Misstatement("twice the growth", "bilinear", "simultaneous", "T/2", "T"),
    Misstatement("a smaller ellipse", "bilinear", "alternating", "h + 2", "h + 1"),
    Misstatement("twice the samples", "batch-size", "samples, whatever the batch", "C*D", "2*C*D"),
    Misstatement("the radius once", "shipped-follower", "simple", "omega**2", "omega"),
    Misstatement("the angle's sine once", "shipped-follower", "exact", "omega**2", "omega"),
    Misstatement("d for d - 1", "second-moment", "progress", "(d - 1)", "(d - 2)"),
)


def misstated(theorem: Theorem, letters: bool = True) -> Iterator[tuple[str, Bound]]:
    """The theorem's bounds, each with one thing changed: those of `MISSTATEMENTS`, every constant, the whole, every letter.

    Args:
        theorem: whose.
        letters: the letters too, which takes longer.

    Yields:
        What was changed, and the bound.
    """
    bounds = {bound.name: bound for bound in theorem.bounds}
    for one in MISSTATEMENTS:
        if one.theorem == theorem.name:
            yield f"{one.bound}: {one.name}", one.of(bounds[one.bound])
    for bound in theorem.bounds:
        share = sympy.Rational(10, 7) if bound.lower else sympy.Rational(7, 10)
        yield f"{bound.name} * {share}", replace(bound, expression=share * bound.expression)
        for constant, value in bound.constants.items():
            yield f"{bound.name}: {constant} * {share}", replace(bound, constants={**bound.constants, constant: share * value})
        for letter in sorted(bound.expression.free_symbols - set(bound.constants), key=str) if letters else ():
            for way, other in (("/ 2", letter / 2), ("squared", letter**2)):
                expression = bound.expression.subs(letter, other)
                if expression != bound.expression:
                    yield f"{bound.name}: {letter} {way}", replace(bound, expression=expression)


def plant(fault: Fault) -> dict[str, Any]:
    """Check the named theorem with the fault in, in a process of its own.

    Returns:
        The fault, `caught`, and `how`: the first failure it caused.
    """
    done = subprocess.run(
        [sys.executable, "-m", "convergence.faults", json.dumps(asdict(fault))], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"fault {fault.name!r} could not be planted: {done.stderr.strip()[-500:]}")
    failures = json.loads(done.stdout.splitlines()[-1])
    return {**asdict(fault), "caught": bool(failures), "how": failures[0][:300] if failures else ""}


def tampered(theorem: Theorem) -> Iterator[tuple[str, dict[str, Any]]]:
    """The theorem's certificate documents, each with one number changed: a multiplier or coefficient by 1%, a sign, a term.

    Yields:
        What was changed, and the document.
    """
    document = theorem.document()
    for i, step in enumerate(document["steps"]):
        if "left" in step:
            changed = copy.deepcopy(document)
            changed["steps"][i]["left"] = f"({step['left']}) + 1/1000"
            yield f"{step['name']}: left side + 1/1000", changed
        for kind in ("telescopes", "sums", "means"):
            for j, part in enumerate(step.get(kind, ())):
                changed = copy.deepcopy(document)
                changed["steps"][i][kind][j]["coefficient"] = f"({part['coefficient']})*101/100"
                yield f"{step['name']}: coefficient {j + 1} of {kind} * 101/100", changed
        if "ratio" in step:
            changed = copy.deepcopy(document)
            changed["steps"][i]["ratio"] = f"({step['ratio']})*101/100"
            yield f"{step['name']}: the ratio * 101/100", changed
        if "constant" in step:
            changed = copy.deepcopy(document)
            changed["steps"][i]["gap"] = f"({step['gap']}) + 1/1000"
            yield f"{step['name']}: the result + 1/1000", changed
        for j in range(len(step.get("terms", ()))):
            for how, text in (("* 101/100", "({})*101/100"), ("* (-1)", "-({})"), ("left out", "0*({})")):
                changed = copy.deepcopy(document)
                term = changed["steps"][i]["terms"][j]
                term["multiplier"] = text.format(term["multiplier"])
                yield f"{step['name']}: multiplier {j + 1} {how}", changed


class _Planter(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from changed source."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.fault.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.origin is None:
            return None
        self.origin = spec.origin
        return importlib.util.spec_from_file_location(name, spec.origin, loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        with open(self.origin, encoding="utf-8") as file:
            source = file.read()
        if source.count(self.fault.right) != 1:
            raise ValueError(f"{self.fault.module} does not have exactly one {self.fault.right!r}")
        exec(compile(source.replace(self.fault.right, self.fault.wrong), self.origin, "exec"), module.__dict__)


def _main(arguments: Iterable[str]) -> None:
    fault = Fault(**json.loads(next(iter(arguments))))
    planter = _Planter(fault)
    sys.meta_path.insert(0, planter)
    # Only now: nothing of the package may be loaded before the fault is in.
    from convergence.check import check  # noqa: PLC0415
    from convergence.effort import FAST  # noqa: PLC0415
    from convergence.theorems import all_theorems  # noqa: PLC0415

    theorem = next(t for t in all_theorems() if t.name == fault.caught_by)
    print(json.dumps(check(theorem, FAST)["failures"]))


if __name__ == "__main__":
    _main(sys.argv[1:])
