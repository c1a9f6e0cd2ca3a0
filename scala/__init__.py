"""ScaLA: large-batch adversarial adaptation as a sequential game, min over weights, max over noise on the embeddings.

The core (`Adversary`, `AscentView`, `Lamb`, `Game`, `EmbeddingNoise`) needs only torch. `ScalaConfig` and `ScalaTrainer` need
transformers, which is imported when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from scala.adversary import Adversary
from scala.ascent_view import AscentView
from scala.balls import Ball
from scala.embedding_noise import EmbeddingNoise
from scala.game import Game, NonFiniteLoss, RoundReport
from scala.lamb import Lamb

if TYPE_CHECKING:
    from scala.trainer import ScalaConfig, ScalaTrainer

__all__ = [
    "Adversary",
    "AscentView",
    "Ball",
    "EmbeddingNoise",
    "Game",
    "Lamb",
    "NonFiniteLoss",
    "RoundReport",
    "ScalaConfig",
    "ScalaTrainer",
]


def __getattr__(name: str) -> Any:
    if name in ("ScalaConfig", "ScalaTrainer"):
        return getattr(importlib.import_module("scala.trainer"), name)
    raise AttributeError(f"module 'scala' has no attribute {name!r}")
