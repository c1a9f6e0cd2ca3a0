"""`scala-adapt` killed: the weights that it writes, the log and the scores must be those of a training never disturbed."""

from __future__ import annotations

import json
import random
import statistics
from functools import partial
from pathlib import Path
from typing import Any

from paper_repro.faults.kills import BLOWS, Trial
from paper_repro.faults.sweep_under_test import SweepUnderTest, message
from paper_repro.faults.victim import Command, Victim, dies_in_a_write, drawn_size
from paper_repro.record import write_whole
from scala import adapt

_WRITES = 30
"""About as many files does Python open to write in one training."""


class Adaptation:
    """The command on made-up sentences, and what it gives undisturbed."""

    def __init__(self) -> None:
        self.undisturbed: dict[str, Any] = {}
        self.seconds = 0.0

    def trial(self, test: SweepUnderTest, out: Path, draw: random.Random) -> Trial:
        """Killed at random times, or at random bytes of its writes, until it is done."""
        data = out.with_name("sentences.csv")
        if not self.undisturbed:
            letters = random.Random(0)
            words = ["".join(letters.choices("abcdefgh", k=3)) for _ in range(32)]
            write_whole(data, "text,label\n" + "".join(f"{word} {word[::-1]},{i % 2}\n" for i, word in enumerate(words)))
            whole = [out.with_name(f"adapted-{number}") for number in range(3)]
            lives = [Victim(_command(test, data, folder)).end() for folder in whole]
            if any(life.status for life in lives) or any(_written(folder) != _written(whole[0]) for folder in whole):
                raise RuntimeError(f"an undisturbed scala-adapt failed, or differs from another:\n{lives[0].said}")
            self.undisturbed = _written(whole[0])
            self.seconds = statistics.median(life.seconds for life in lives)
        strikes, seconds, lost = 0, 0.0, list[str]()
        for blows in range(BLOWS + 1):
            in_a_write = dies_in_a_write(draw.randrange(_WRITES), drawn_size(draw)) if draw.random() < 0.5 else None
            if blows < BLOWS:
                ended = Victim(_command(test, data, out), in_a_write).end(draw.uniform(0, self.seconds))
            else:
                ended = Victim(_command(test, data, out)).end()
            seconds += ended.seconds
            if not ended.killed:
                break
            strikes += 1
        if ended.status != 0 and not ((out / "scores.json").exists() and "holds a finished model" in ended.said):
            lost.append(f"the same command does not go on: {message(ended, out)}")
        elif _written(out) != self.undisturbed:
            lost.append("weights, log or scores are not those of a training never disturbed")
        return Trial(strikes, "", tuple(lost), (seconds - self.seconds) / max(1, strikes))


def _command(test: SweepUnderTest, data: Path, out: Path) -> Command:
    options = "--num_train_epochs 3 --per_device_train_batch_size 4 --global_batch_size 8 --max-length 24 --use_cpu"
    steps = "--save_strategy steps --save_steps 2 --eval_strategy steps --eval_steps 4 --noise_start warm --noise_delay 0.25"
    files = ["--model", str(test.model), "--train", str(data), "--output", str(out)]
    return partial(adapt.main, [*files, *options.split(), *steps.split()])


def _written(out: Path) -> dict[str, Any]:
    """What is left for the user, without times."""
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    return {
        "weights": (out / "model.safetensors").read_bytes(),
        "log": (out / "log.tsv").read_bytes(),
        "scores": {key: value for key, value in scores.items() if not key.endswith(("runtime", "per_second"))},
    }
