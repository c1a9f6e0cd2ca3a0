"""How much of the exact ascent's loss rise a cheaper ascent keeps, on a real encoder that is being adapted."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from paper_repro.analysis.statistics import jackknife
from paper_repro.bench.round import Bench, Played
from paper_repro.data.encoders import resolve
from paper_repro.data.tasks import EMBEDDED, load_task
from scala import Ball
from scala.labelled_text import tokenized

EXACT = "ScaLA, K = 1"
ONE_PASS = "one pass"
RANDOM = "random direction"
COMPARED = (
    EXACT,
    "own dropout",
    "ascent without dropout",
    "ascent in bf16",
    "gradient of top half",
    "half the batch",
    "half, without dropout",
    ONE_PASS,
)
_SEED = 0


def rise_kept(
    encoder: str, *, batch: int = 32, first: int = 60, every: int = 30, visits: int = 3, probes: int = 6
) -> list[dict[str, Any]]:
    """Adapt an encoder to the embedded task by AdamW, and now and then compare ascents on batches that it is not trained on.

    The rise of a noise is loss(noise) - loss(no noise), both under the same dropout masks. Kept is the mean rise over probes
    and visits, divided by that of the exact ascent. The one-pass ascent's noise is from the probe's visit before, so the
    first visit does not count.

    Args:
        encoder: see `paper_repro.data.encoders`; with its own weights.
        batch: samples of a batch.
        first: steps of training before the first visit.
        every: steps between visits.
        visits: how often ascents are compared, at least 2.
        probes: the batches they are compared on.

    Returns:
        A dict a row, the exact ascent first: name, rise (mean), kept, interval (95%, over the probes).
    """
    torch.manual_seed(_SEED)
    location = resolve(encoder)
    tokenizer = AutoTokenizer.from_pretrained(location)
    model = AutoModelForSequenceClassification.from_pretrained(
        location, num_labels=2, use_safetensors=True, dtype=torch.float32
    )
    data = tokenized(load_task(EMBEDDED).train.remove_columns("idx"), tokenizer, 64).shuffle(seed=_SEED)
    loader = DataLoader(data, batch, collate_fn=DataCollatorWithPadding(tokenizer), drop_last=True)
    batches = [dict(rows) for rows in loader]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    benches = [Bench(model.train(), optimizer, rows) for rows in batches[:probes]]
    games = [bench.games() for bench in benches]  # each probe has its own, whose memory lasts
    rises: dict[str, list[list[float]]] = {name: [] for name in (*COMPARED, RANDOM)}  # of each visit and probe
    for step in range(first + every * (visits - 1)):
        optimizer.zero_grad()
        model(**batches[probes + step % (len(batches) - probes)]).loss.backward()
        optimizer.step()
        if step + 1 >= first and (step + 1 - first) % every == 0:
            seen = [_rises(bench, game, seed=step) for bench, game in zip(benches, games, strict=True)]
            for name, found in rises.items():
                found.append([rise[name] for rise in seen])
    means = {name: np.mean(found[1:], axis=0) for name, found in rises.items()}
    return [{"name": name, "rise": float(mean.mean())} | _kept(mean, means[EXACT]) for name, mean in means.items()]


def _rises(bench: Bench, games: dict[str, Played], seed: int) -> dict[str, float]:
    at, mask = bench.embeddings(), bench.batch["attention_mask"]

    def loss(noise: Tensor) -> Tensor:
        torch.manual_seed(seed)
        return bench.objective(noise)

    def value(noise: Tensor) -> float:
        with torch.no_grad():
            return float(loss(noise))

    clean = value(torch.zeros_like(at))
    found = {}
    for name in COMPARED:
        adversary = games[name].game.adversary
        assert adversary is not None
        torch.manual_seed(seed)
        if not adversary.same_dropout:
            torch.rand(1)  # the leader's masks are others
        noise = adversary.respond(bench.seen(games[name].view), at, mask, range(len(at))).noise
        found[name] = value(noise) - clean
        if adversary.one_pass:
            loss(noise).backward(inputs=[noise])  # what the leader's pass does
    ball = Ball.around(at, bench.radius, relative=True, mask=mask)
    length = ball.radius.reshape(-1, 1, 1)
    found[RANDOM] = value(ball.project(ball.direction(torch.randn_like(at)) * length)) - clean
    return found


def _kept(rises: np.ndarray, exact: np.ndarray) -> dict[str, Any]:
    without = (rises.sum() - rises) / (exact.sum() - exact)  # a ratio of means, for each probe without it
    found = jackknife(float(rises.mean() / exact.mean()), without)
    return {"kept": found.mean, "interval": list(found.interval)}
