"""The batch and the rate where none is given: measured defaults, made for the size of the data."""

from __future__ import annotations

import math

from scala.trainer import ScalaConfig

LEAST_STEPS = 60
"""With the default batch size the batch is halved until training has at least so many steps."""
STEPS_OF_THE_RATE = 90
"""Steps of a training that the default rate is for. Over more steps it goes with one over their root, which at equal epochs is
the square root of the batch (You et al. 2020, section 4); over fewer it stays."""


def batch_size(config: ScalaConfig) -> int:
    """Samples of a step of the leader, over all processes."""
    return config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size


def choose_batch(config: ScalaConfig, samples: int) -> None:
    """Take the largest of 512, 256 ... that leaves LEAST_STEPS steps."""
    batch = 512
    unit = config.per_device_train_batch_size * config.world_size
    while batch > unit and math.ceil(samples / batch) * config.num_train_epochs < LEAST_STEPS:
        batch //= 2
    batch = max(unit, batch // unit * unit)
    config.gradient_accumulation_steps = batch // unit


def fit_rate(config: ScalaConfig, samples: int) -> None:
    """Lower the default rate of LAMB for a training of more steps than it is for."""
    config.learning_rate *= min(1.0, math.sqrt(STEPS_OF_THE_RATE / steps(config, samples)))


def steps(config: ScalaConfig, samples: int) -> int:
    """The leader's steps that training will make."""
    if config.max_steps > 0:
        return config.max_steps
    return math.ceil(math.ceil(samples / batch_size(config)) * config.num_train_epochs)
