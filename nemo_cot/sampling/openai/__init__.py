"""Our own client of OpenAI-compatible endpoints."""

from nemo_cot.sampling.openai.endpoint import sample_endpoint as sample

__all__ = ["sample"]
