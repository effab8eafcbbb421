"""Sample with the engine that the config names. What an engine needs is imported with it."""

from __future__ import annotations

from nemo_cot.config.engines import EngineConfig, NemoSkillsEngine, OpenAIEngine
from nemo_cot.errors import UserError
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.text import TextTokenizer


def sample(engine: EngineConfig, job: SamplingJob) -> None:
    """Write ``job.folder``/generations.jsonl. A run that was cut short goes on where it was."""
    if isinstance(engine, OpenAIEngine):
        from nemo_cot.sampling.openai.endpoint import sample_endpoint

        sample_endpoint(engine, job)
    elif isinstance(engine, NemoSkillsEngine):
        from nemo_cot.sampling.nemo_skills.run import sample_nemo_skills

        sample_nemo_skills(engine, job)
    else:
        _embedded(job)


def _embedded(job: SamplingJob) -> None:
    from nemo_cot.sampling.embedded.run import sample_problems

    if job.model is None:
        raise UserError("no model directory", where=job.label, fix="give one, or another engine")
    sample_problems(
        job.model,
        TextTokenizer(job.model, job.form),
        job.problems,
        samples=job.samples,
        seed=job.seed,
        sampling=job.sampling,
        lineage=job.lineage,
        folder=job.folder,
        label=job.label,
    )
