"""Made-up labelled files, and command lines of `scala-adapt` that train on them in a second."""

import random
from pathlib import Path

QUICK = {"num_train_epochs": "2", "per_device_train_batch_size": "8", "use_cpu": "True"}


def words(rng: random.Random) -> str:
    return " ".join("".join(rng.choices("abcdefgh", k=3)) for _ in range(3))


def write_files(folder: Path) -> Path:
    """train.csv and dev.csv: two texts, a class and a score a row."""
    rng = random.Random(0)
    for name, count in (("train", 40), ("dev", 12)):
        rows = [f"{words(rng)},{words(rng)},{rng.choice(['no', 'yes'])},{rng.random():.3f}" for _ in range(count)]
        (folder / f"{name}.csv").write_text("a,b,answer,score\n" + "\n".join(rows) + "\n")
    return folder


def line(files: Path, encoder: str, **more: str | list[str] | None) -> list[str]:
    """A command line; an option of None is left out."""
    options: dict[str, str | list[str] | None] = {"model": encoder, "train": str(files / "train.csv"), "text": "a"}
    options |= {"dev": str(files / "dev.csv"), "label": "answer", "output": str(files / "out")} | QUICK | more
    found = []
    for name, value in options.items():
        if value is not None:
            found += [f"--{name}", *([value] if isinstance(value, str) else value)]
    return found


def spoil(path: Path, line: int, text: str) -> None:
    """Write another text in one line of a file."""
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")
