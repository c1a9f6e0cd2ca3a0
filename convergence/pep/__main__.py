"""Print the tables, or make the stored files anew."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from convergence import verifier
from convergence.effort import FAST, FULL
from convergence.pep.comparison import cross_check
from convergence.pep.duals import CHOICES, as_document, certificates
from convergence.pep.extra import STORED, stored
from convergence.pep.refutation import false_bound, search
from convergence.pep.statements import NOT_REPRESENTABLE
from convergence.record import write_whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 without the extra."""
    parser = argparse.ArgumentParser(
        prog="python -m convergence.pep", description="PEPit's values and duals beside our bounds."
    )
    parser.add_argument("--fast", action="store_true", help="fewer parameters")
    parser.add_argument("--write", action="store_true", help="make convergence/pep/certificates/ anew, and stop")
    options = parser.parse_args(arguments)
    try:
        if options.write:
            _write()
            return 0
        _print_cross_check(cross_check(FAST if options.fast else FULL))
        _print_certificates(certificates(CHOICES[::6] if options.fast else CHOICES))
        _print_false_bound(false_bound())
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        print(f"stored certificates, without a solver: {verifier.verify(stored())} accepted")
        return 1
    return 0


def _write() -> None:
    records = {"projected_ascent": as_document(certificates())}
    if found := search():  # otherwise this solver does not err, and what is stored shows one that did
        record, refused, proved = found
        records |= {"false_bound": refused | {"record": record}, "gradient_descent": proved}
    for name, content in records.items():
        write_whole(STORED / f"{name}.json", json.dumps(content, indent=1) + "\n")


def _written(parameters: dict[str, str]) -> str:
    return " ".join(f"{k}={v}" for k, v in parameters.items())


def _print_cross_check(rows: Sequence[dict[str, Any]]) -> None:
    print(f"{'statement':30}{'parameters':42}{'PEPit':>13}{'ours':>13}{'difference':>12}  {'SDP':>8}{'exact':>9}")
    for row in rows:
        mark = "=" if row["tight"] and row["agrees"] else "<=" if row["agrees"] else "DIFFERS"
        mark += "" if row["status"] == "optimal" else f" ({row['status']})"
        times = f"{row['solve_seconds'] * 1e3:6.0f}ms{row['verify_seconds'] * 1e3:7.2f}ms"
        value = f"{'-':>13}" if row["pepit"] is None else f"{row['pepit']:13.8f}"
        difference = f"{'-':>12}" if row["difference"] is None else f"{row['difference']:12.1e}"
        print(f"{row['statement']:30}{_written(row['parameters']):42}{value}{row['ours']:13.8f}{difference}  {times} {mark}")
    for name, why in NOT_REPRESENTABLE.items():
        print(f"not representable: {name}. {why}")


def _print_certificates(found: Sequence[dict[str, Any]]) -> None:
    print(f"\n{'exact certificates from duals':36}{'rate proved':>18}{'above q^2':>11}{'denominator':>13}{'duals off by':>14}")
    for one in found:
        off = max(abs(a - b) for a, b in zip(one["duals"], one["closed_duals"], strict=True))
        parameters = _written(one["parameters"])
        print(f"{parameters:36}{one['rate']:>18}{one['excess']:11.1e}{one['denominator']:13d}{off:14.1e}")
    pepit, rounding = (sum(one["seconds"][k] for one in found) for k in range(2))
    print(f"{len(found)} exact; {pepit:.2f} s of PEPit, {rounding:.2f} s of rounding")


def _print_false_bound(record: dict[str, Any]) -> None:
    instance = record["instance"]
    proved = "accepted" if record["proved"]["accepted"] else "refused"
    kept = ", as stored: the installed one errs upwards only" if record["stored"] else ""
    print(
        f"\nfalse bound: {record['solver']} ({record['status']}{kept}) says tau <= {record['tau']:.10f} at N = {record['N']}, "
        f"the truth is {record['true']}: {record['below']:.1e} below it\n"
        f"  an exact instance has |f'|^2 = {instance['gradient']} at a decrease of {instance['decrease']}: "
        f"{instance['violation']:.1e} above the bound\n"
        f"  its duals as a proof of that bound: refused, {record['refused']['reason'][:100]}\n"
        f"  its duals, rounded, as a proof of {record['true']}: {proved}"
    )


if __name__ == "__main__":
    sys.exit(main())
