"""How fast: the batched engine against a loop over instances, and exact verification against the SDP solve.

``python -m convergence.benchmark [--out FILE]``. The pairs are interleaved, so that whatever else the machine does meets both;
medians are reported with the least and the greatest. On a busy machine trust the ratios, not the seconds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from sympy.core.cache import clear_cache
from torch import Tensor

from convergence import pep, verifier
from convergence.certificate import verify
from convergence.document import document
from convergence.play import Round, follower, normalized, play
from convergence.record import Spread, provenance, write_whole
from convergence.theorems.projected_ascent import THEOREM
from toy_problems import Quadratic, Sigmoid

ROUNDS = 20


def games(batch: int, seed: int = 0) -> tuple[Sigmoid, Tensor]:
    """Random non-convex strongly-concave games in a unit ball, two layers, and where to start: [batch, 3]."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator, dtype=torch.float64)

    root = draw(2, 2)
    curvature = root @ root.mT + 0.2 * torch.eye(2, dtype=torch.float64)
    quadratic = Quadratic(torch.zeros(batch, 3, 3), draw(3, 2), curvature, layers=(2, 1), omega=torch.ones(batch))
    return Sigmoid(draw(3, 3), quadratic), draw(3)


def alone(problem: Sigmoid, i: int) -> Sigmoid:
    """Instance i as a batch of one."""
    game, one = problem.game, slice(i, i + 1)
    omega = None if game.omega is None else game.omega[one]
    return Sigmoid(problem.features[one], Quadratic(game.A[one], game.B[one], game.C[one], layers=game.layers, omega=omega))


def run(problem: Sigmoid, x: Tensor, rounds: int = ROUNDS) -> Tensor:
    """The full round of the paper (K = 1, layer-wise normalised leader); the final weights."""
    return play(problem, x, normalized(0.01), follower(0.3), rounds=rounds, observe=_nothing, every=rounds)["final"]


def _nothing(_: Round) -> dict[str, Tensor]:
    return {}


def batched_against_loop(batch: int, instances: int = 50, pairs: int = 5, rounds: int = ROUNDS) -> dict[str, Any]:
    """Instance-steps per second of one batched play and of a plain loop.

    Args:
        batch: B of the batched play.
        instances: of them, how many the loop plays; its time per instance does not depend on how many there are.
        pairs: measurements of each, in turn.
        rounds: T of both.

    Returns:
        batch, rounds, pairs, loop_instances, batched and loop (instance-steps per second) and ratio, each a spread;
        difference (the greatest, of the final weights of the instances played both ways).
    """
    problem, x = games(batch)
    instances = min(instances, batch)
    singles = [alone(problem, i) for i in range(instances)]
    run(problem, x, 2), run(singles[0], x[:1], 2)  # what is loaded on first use is not measured
    batched, loop, difference = [], [], 0.0
    for _ in range(pairs):
        seconds, final = _timed(lambda: run(problem, x, rounds))
        batched.append(batch * rounds / seconds)
        seconds, finals = _timed(lambda: [run(one, x[i : i + 1], rounds) for i, one in enumerate(singles)])
        loop.append(instances * rounds / seconds)
        difference = max(difference, float((torch.cat(finals) - final[:instances]).abs().max()))
    ratio = [a / b for a, b in zip(batched, loop, strict=True)]
    spreads = {"batched": batched, "loop": loop, "ratio": ratio}
    return {
        "batch": batch,
        "rounds": rounds,
        "pairs": pairs,
        "loop_instances": instances,
        **{name: vars(Spread.of(values)) for name, values in spreads.items()},
        "difference": difference,
    }


def _timed(action: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def verification_against_sdp(repeats: int = 5) -> list[dict[str, Any]]:
    """Seconds to check our bound exactly, and to solve the SDP for the same inequality.

    Returns:
        One dict a row: statement, parameters, sympy (its cache empty), stand_alone, sdp (PEPit's solve, with its modelling)
        and solver (what of it the solver itself took), all seconds, as spreads; ratio (of the medians, sdp / stand_alone).
        sdp, solver and ratio are None where the extra ``pep`` is missing, and in the last row: the theorem with symbols, all
        parameters at once, which no SDP checks.
    """
    P = pep.pepit() if importlib.util.find_spec("PEPit") else None
    rows = []
    for statement in pep.STATEMENTS:
        choice = statement.choices[-1]
        assumed, step = statement.certificate(choice)
        proof = document(statement.name, assumed, [step])
        seconds: dict[str, list[float]] = {"sympy": [], "stand_alone": [], "sdp": [], "solver": []}
        for _ in range(repeats):
            clear_cache()
            seconds["sympy"].append(_timed(lambda s=step, a=assumed: verify(a, {}, [s]))[0])  # type: ignore[misc]
            seconds["stand_alone"].append(_timed(lambda d=proof: verifier.verify(d))[0])  # type: ignore[misc]
            if P is not None:
                problem = statement.sdp(P, choice)
                seconds["sdp"].append(_timed(lambda p=problem: p.solve(verbose=0, solver="CLARABEL"))[0])  # type: ignore[misc]
                seconds["solver"].append(float(problem.wrapper.prob.solver_stats.solve_time))
        rows.append(_row(statement.name, {k: str(v) for k, v in choice.items()}, seconds))
    written = THEOREM.document()
    seconds = {"sympy": [], "stand_alone": []}
    for _ in range(repeats):
        clear_cache()
        seconds["sympy"].append(_timed(THEOREM.verify)[0])
        seconds["stand_alone"].append(_timed(lambda: verifier.verify(written))[0])
    return [*rows, _row("projected ascent, all mu, l and rho", {}, seconds)]


def _row(statement: str, parameters: dict[str, str], seconds: dict[str, list[float]]) -> dict[str, Any]:
    spreads = {name: vars(Spread.of(values)) for name, values in seconds.items() if values}
    sdp = spreads.get("sdp")
    return {
        "statement": statement,
        "parameters": parameters,
        "sympy": spreads["sympy"],
        "stand_alone": spreads["stand_alone"],
        "sdp": sdp,
        "solver": spreads.get("solver"),
        "ratio": sdp["median"] / spreads["stand_alone"]["median"] if sdp else None,
    }


def benchmark(batches: Sequence[int] = (100, 1_000, 10_000), pairs: int = 5, rounds: int = ROUNDS) -> dict[str, Any]:
    """Everything: engine, verification and provenance."""
    packages = ["torch", "numpy", "sympy"]
    packages += [name for name in ("PEPit", "cvxpy", "clarabel") if importlib.util.find_spec(name)]
    return {
        "engine": [batched_against_loop(batch, pairs=pairs, rounds=rounds) for batch in batches],
        "verification": verification_against_sdp(pairs),
        "provenance": provenance(packages) | {"load": os.getloadavg()[0]},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m convergence.benchmark", description="Speed, in interleaved pairs.")
    parser.add_argument("--out", type=Path, help="write the record to this JSON file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # as the checks run: small tensors, and two threads only wait for each other
    record = benchmark()
    print(f"{'instances':>10}{'batched, steps/s':>20}{'loop, steps/s':>16}{'ratio':>9}  least to greatest")
    for row in record["engine"]:
        ratio = row["ratio"]
        print(
            f"{row['batch']:10,}{row['batched']['median']:20,.0f}{row['loop']['median']:16,.0f}{ratio['median']:8.0f}x  "
            f"{ratio['least']:.0f}x to {ratio['greatest']:.0f}x; final weights differ by {row['difference']:.0e}"
        )
    print(f"\n{'inequality':37}{'sympy':>10}{'stand-alone':>13}{'SDP':>10}{'(its solver)':>14}{'SDP/stand-alone':>17}")
    for row in record["verification"]:
        columns = [
            f"{row[key]['median'] * 1e3:.2f}ms" if row[key] else "-" for key in ("sympy", "stand_alone", "sdp", "solver")
        ]
        ratio = f"{row['ratio']:.1f}x" if row["ratio"] else "-"
        print(f"{row['statement']:37}{columns[0]:>10}{columns[1]:>13}{columns[2]:>10}{columns[3]:>14}{ratio:>17}")
    if record["verification"][0]["sdp"] is None:
        print("no SDP times: pip install 'scala-adapt[pep]'")
    known = record["provenance"]
    where = f"{known['hardware']}, {known['threads']} threads, load {known['load']:.1f}"
    print(f"\n{where}, {known['versions']}, commit {known['commit']}")
    if options.out:
        write_whole(options.out, json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
