"""The embedded engine: sample from a local model on CPU or one GPU."""

from nemo_cot.sampling.embedded.run import sample

__all__ = ["sample"]
