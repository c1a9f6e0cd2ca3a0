"""Public figures of GPUs and models, for predictions of what was not run: each is an assumption, with its range and source.

A prediction with them says what would follow, not what was seen. `paper_repro.scaling.step_times --device cuda` measures most
of what is assumed here; its file then takes their place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedConfig

from paper_repro.bench.leader import ADAMW_BYTES, LAMB_BYTES
from paper_repro.bench.speed_measures import SHAPES
from paper_repro.scaling.inputs import Input, Inputs, Scale, typical
from paper_repro.scaling.model import System

Ends = tuple[float, float, float]
"""Low, typical, high."""

LENGTH = 128
"""Tokens of a sample with its padding: the usual greatest length for GLUE."""

KERNELS: Ends = (60, 90, 120)
"""Launches of a layer's forward and backward in PyTorch without compilation: about 25 operations forward (six products, four of
attention, biases, dropouts, norms, residuals, casts of mixed precision), two or three times as many backward."""

LAUNCH: Ends = (4e-6, 8e-6, 16e-6)
"""Seconds of the host for one: the driver's 2 to 5 and PyTorch's dispatch, autograd and Python on top."""


@dataclass(frozen=True)
class Machine:
    """A GPU and the machines that it comes in.

    Attributes:
        name: of the whole.
        peak: floating-point operations a second, 16-bit products with 32-bit sums, dense.
        utilisation: share of the peak in forward and backward of a micro-batch that fills the device.
        memory: bytes a second of the GPU's memory.
        limit: greatest micro-batch of 128 tokens, by model.
        node: GPUs a machine.
        bandwidth: bytes a second of a GPU's link in one direction, as reached by all-reduce.
        node_bandwidth: bytes a second of a machine's network in one direction, as reached.
        sources: of peak, utilisation, bandwidth and node_bandwidth.
    """

    name: str
    peak: float
    utilisation: Ends
    memory: float
    limit: MappingProxyType[str, int]
    node: int
    bandwidth: Ends
    node_bandwidth: Ends
    sources: MappingProxyType[str, str]


MACHINES = {
    "dgx-2": Machine(
        name="DGX-2: 16 V100 32 GB, NVSwitch, 8 x 100 Gb/s InfiniBand",
        peak=125e12,
        utilisation=(0.15, 0.3, 0.5),
        memory=900e9,
        limit=MappingProxyType({"bert-base-uncased": 64, "roberta-large": 32}),
        node=16,
        bandwidth=(90e9, 120e9, 140e9),
        node_bandwidth=(50e9, 75e9, 95e9),
        sources=MappingProxyType(
            {
                "peak": "NVIDIA's data sheets: V100 125 TFLOP/s, 900 GB/s; DGX-2 2 PFLOP/s",
                "utilisation": "0.30 of a V100's peak in Megatron-LM (Shoeybi et al. 2019, arXiv 1909.08053); about 0.5 with "
                "hand-made kernels at length 128 (DeepSpeed 2020); unfused PyTorch at short lengths less",
                "bandwidth": "NVLink 2: 300 GB/s of a GPU, both directions together; reached: 60% to 95% of one",
                "node_bandwidth": "8 x 100 Gb/s = 100 GB/s a machine in one direction; reached: 50% to 95%",
            }
        ),
    ),
    "dgx-h100": Machine(
        name="DGX H100: 8 H100 80 GB, NVSwitch, 8 x 400 Gb/s InfiniBand",
        peak=989e12,
        utilisation=(0.15, 0.3, 0.5),
        memory=3.35e12,
        limit=MappingProxyType({"bert-base-uncased": 256, "roberta-large": 128}),
        node=8,
        bandwidth=(270e9, 350e9, 450e9),
        node_bandwidth=(200e9, 300e9, 380e9),
        sources=MappingProxyType(
            {
                "peak": "NVIDIA's data sheet: H100 SXM 989 TFLOP/s dense bf16, 3.35 TB/s",
                "utilisation": "0.46 is good for large models at length 2048 (Chowdhery et al. 2022, arXiv 2204.02311); "
                "small ones at length 128, unfused, reach less",
                "bandwidth": "NVLink 4: 900 GB/s of a GPU, both directions together; reached: 60% to all of one",
                "node_bandwidth": "8 x 400 Gb/s = 400 GB/s a machine in one direction; reached: 50% to 95%",
            }
        ),
    ),
}


def flops_per_token(config: PreTrainedConfig, length: int) -> float:
    """Floating-point operations of forward and backward for one token.

    6 for each weight of the encoder's products and 12 h L a layer for attention's two products: Kaplan et al. 2020
    (arXiv 2001.08361), Chowdhery et al. 2022 (arXiv 2204.02311, appendix B). Embeddings, norms and the head are left out.

    Args:
        config: of a BERT-like encoder, with hidden size h.
        length: L, tokens of its sequence.
    """
    width, depth = config.hidden_size, config.num_hidden_layers
    weights = depth * (4 * width**2 + 2 * width * config.intermediate_size)
    return 6.0 * weights + 12.0 * depth * width * length


def parameters(config: PreTrainedConfig) -> int:
    """Weights of a two-class model of this architecture; none is allocated."""
    with torch.device("meta"):
        return sum(p.numel() for p in AutoModelForSequenceClassification.from_config(config).parameters())


@dataclass(frozen=True)
class Case:
    """A model on a kind of hardware.

    Attributes:
        model: its name.
        hardware: its name.
        limit: greatest micro-batch.
        base: the system at its inputs' typical values.
        inputs: what is not known exactly, by the name of the field of `System`.
    """

    model: str
    hardware: str
    limit: int
    base: System
    inputs: Inputs


def case(model: str, hardware: str, measured: Inputs | None = None) -> Case:
    """A model on a kind of hardware, by public figures.

    Args:
        model: one of `paper_repro.bench.speed_measures.SHAPES`.
        hardware: one of `MACHINES`.
        measured: take the place of assumptions, see `paper_repro.scaling.inputs.read`.

    Raises:
        ValueError: an unknown model or kind of hardware, or a measured input that the model does not have.
    """
    if model not in SHAPES or hardware not in MACHINES:
        raise ValueError(f"no figures for {model!r} on {hardware!r}; there are {', '.join(SHAPES)} on {', '.join(MACHINES)}")
    config, machine = SHAPES[model], MACHINES[hardware]
    sample = LENGTH * flops_per_token(config, LENGTH)
    slow, usual, fast = machine.utilisation
    depth = config.num_hidden_layers

    def assumed(ends: Iterable[float], unit: str, source: str, scale: Scale = "log") -> Input:
        low, middle, high = ends
        return Input(low, middle, high, unit, "assumed", source, scale)

    reached = (0.9, 0.75, 0.3)  # of the memory's bandwidth; the least with clipping and checks, which read the gradients again
    inputs = {
        "per_sample": assumed(
            (sample / machine.peak / share for share in (fast, usual, slow)),
            "s",
            f"{sample:.3g} operations a sample of {LENGTH} tokens at a utilisation of {fast}, {usual}, {slow}: "
            f"{machine.sources['utilisation']}; {machine.sources['peak']}",
        ),
        "floor": assumed(
            (depth * kernels * launch for kernels, launch in zip(KERNELS, LAUNCH, strict=True)),
            "s",
            f"kernels of {depth} layers, {KERNELS} each, times {LAUNCH} s a launch",
        ),
        "backward": assumed((0.6, 2 / 3, 0.7), "share", "two of three equal passes", "linear"),
        "ascent": assumed(
            (0.5, 2 / 3, 0.8), "of a micro-batch", "a forward and a backward to the embeddings: two of three passes"
        ),
        "adamw": assumed(
            (ADAMW_BYTES / machine.memory / share for share in reached),
            "s a parameter",
            f"{ADAMW_BYTES} bytes a parameter at {reached[0]}, {reached[1]}, {reached[2]} of the memory's bandwidth",
        ),
        "lamb": assumed((LAMB_BYTES / ADAMW_BYTES, 2.0, 4.0), "of AdamW", "from its bytes alone to twice the usual"),
        "gradient_bytes": assumed((2, 4, 4), "bytes", "DDP reduces fp32 gradients under autocast; fp16 models reduce 2 bytes"),
        "overlap": assumed((0.0, 0.5, 0.9), "share", "DDP's buckets: none to almost all of the backward pass", "linear"),
        "bandwidth": assumed(machine.bandwidth, "bytes/s", machine.sources["bandwidth"]),
        "latency": assumed((1.5e-6, 4e-6, 8e-6), "s", "a message over NVLink with NCCL's synchronisation"),
        "node_bandwidth": assumed(machine.node_bandwidth, "bytes/s", machine.sources["node_bandwidth"]),
        "node_latency": assumed((4e-6, 8e-6, 2e-5), "s", "a message over InfiniBand with NCCL's synchronisation"),
    }
    base = System(parameters=parameters(config), per_sample=0.0, node=machine.node)
    if measured is not None:
        unknown = sorted(name for name in measured if not hasattr(base, name))
        if unknown:
            raise ValueError(f"the measured inputs hold {', '.join(unknown)}, which the model does not have")
        inputs |= measured
    return Case(model, machine.name, machine.limit[model], base.at(typical(inputs)), inputs)
