"""Results as files: written whole or not at all, with what their numbers depend on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scala.whole_file import write_whole

__all__ = ["Spread", "provenance", "write_whole"]


def provenance(packages: Sequence[str]) -> dict[str, Any]:
    """What the numbers depend on beside the settings: code, libraries, hardware, date.

    Args:
        packages: installed distributions whose versions matter.
    """
    cuda = torch.cuda.is_available()
    hardware = torch.cuda.get_device_name() if cuda else f"{_processor()}, {os.cpu_count()} cores"
    return {
        "commit": _commit(),
        "versions": {name: importlib.metadata.version(name) for name in packages} | {"python": platform.python_version()},
        "hardware": hardware,
        "threads": torch.get_num_threads(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _processor() -> str:
    """The processor's name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), f"{platform.machine()} CPU")


def _commit() -> str | None:
    """The checkout's commit, "+changes" if files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+changes" if changed else "")


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of repeated measurements."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of these."""
        return cls(statistics.median(values), min(values), max(values))
