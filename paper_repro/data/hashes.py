"""SHA-256 of files, each read once a process for as long as it does not change."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path


def sha256_of(*paths: Path) -> str:
    """The hash of the files' contents one after the other, 64 hexadecimal digits; FileNotFoundError if one is missing."""
    stats = [path.stat() for path in paths]
    return _read(paths, tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))


@functools.cache
def _read(paths: tuple[Path, ...], _stamps: tuple[tuple[int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()
