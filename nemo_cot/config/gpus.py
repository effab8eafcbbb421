"""What GPUs do at most: the figures that hours and memory are estimated by. cluster.gpu_type chooses among them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One GPU of a node whose GPUs are all linked (NVLink, NVSwitch).

    ``bf16_flops``: operations per second, dense. ``bytes_per_second``: memory bandwidth. ``memory_bytes``: what the
    driver reports. ``link_bytes_per_second``: to the others, in one direction.
    """

    name: str
    bf16_flops: float
    bytes_per_second: float
    memory_bytes: int
    link_bytes_per_second: float


H100 = Gpu("H100", 989e12, 3.35e12, 81_559 * 2**20, 450e9)
"""SXM5 80GB: NVIDIA's data sheet (half of the operations with sparsity, half of 900 GB/s in both directions)."""
H200 = Gpu("H200", 989e12, 4.8e12, 143_771 * 2**20, 450e9)
"""SXM: NVIDIA's data sheet."""
A100 = Gpu("A100", 312e12, 2.039e12, 81_920 * 2**20, 300e9)
"""SXM4 80GB: NVIDIA's data sheet."""


def gpu_of(gpu_type: str | None) -> Gpu:
    """The GPU that Slurm's name of its type holds (h100, a100-sxm4-80gb); H100 where it is not given or not known."""
    name = (gpu_type or "").lower()
    return next((gpu for gpu in (H200, A100) if gpu.name.lower() in name), H100)
