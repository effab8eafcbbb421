"""NeMo-Skills' generate, in processes of its own."""

from nemo_cot.sampling.nemo_skills.run import sample_nemo_skills as sample

__all__ = ["sample"]
