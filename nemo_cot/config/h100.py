"""What one H100 SXM5 80GB does at most: the figures that hours and memory are estimated by."""

BF16_FLOPS = 989e12
"""Operations per second, dense (NVIDIA's data sheet)."""
BYTES_PER_SECOND = 3.35e12
"""Memory bandwidth (NVIDIA's data sheet)."""
MEMORY_BYTES = 81_559 * 2**20
"""What the driver reports, as in conf/train/layout."""
