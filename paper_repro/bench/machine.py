"""What the machine can do at most: the memory's bandwidth and the rate of matrix products, both as measured through torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from paper_repro.bench.interleaved import seconds_of

FP32, BF16 = "fp32", "bf16"


@dataclass(frozen=True)
class Machine:
    """Where things are timed, and the greatest rates that were seen there.

    Attributes:
        device: "cpu" or "cuda".
        bandwidth: bytes per second.
        flops: floating-point operations per second of matrix products, by precision, "fp32" and perhaps "bf16".
    """

    device: str
    bandwidth: float
    flops: dict[str, float]

    @classmethod
    def measured(cls, device: str) -> Machine:
        """This machine; bf16 only on an accelerator, since few processors have it."""
        dtypes = {FP32: torch.float32} | ({} if device == "cpu" else {BF16: torch.bfloat16})
        return cls(device, memory_bandwidth(device), {name: peak_flops(device, dtype) for name, dtype in dtypes.items()})


def memory_bandwidth(device: str = "cpu", megabytes: int = 256, repeats: int = 10) -> float:
    """Bytes per second, the greatest that was seen, of torch's in-place add (reads two, writes one) and copy of big tensors."""
    a, b = (torch.zeros(megabytes * 2**18, device=device) for _ in range(2))
    rates = []
    for _ in range(repeats):
        rates.append(3 * a.nbytes / seconds_of(lambda: a.add_(b), device))
        rates.append(2 * a.nbytes / seconds_of(lambda: a.copy_(b), device))
    return max(rates)


def peak_flops(device: str = "cpu", dtype: torch.dtype = torch.float32, size: int | None = None, repeats: int = 10) -> float:
    """Floating-point operations per second, the greatest that was seen, of torch's product of two big matrices.

    Args:
        device: where.
        dtype: of the matrices. On a GPU fp32 means fp32: torch's default, without TF32.
        size: rows and columns; by default 2048 on a processor and 8192 on an accelerator.
        repeats: products.
    """
    size = size or (2048 if device == "cpu" else 8192)
    a = torch.ones(size, size, device=device, dtype=dtype)
    out = torch.empty_like(a)
    return max(2 * size**3 / seconds_of(lambda: torch.mm(a, a, out=out), device) for _ in range(repeats))
