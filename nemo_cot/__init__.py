"""nemo-cot: teach a base model to reason from 20 long chain-of-thought traces."""

__version__ = "0.1.0"
