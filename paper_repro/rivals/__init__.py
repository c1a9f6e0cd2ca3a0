"""Rival methods on the same core: same leader, same accumulation, same counting of gradients; one method a file."""

from paper_repro.rivals.trainer import RIVALS, RivalConfig, RivalTrainer

__all__ = ["RIVALS", "RivalConfig", "RivalTrainer"]
