"""Sample with the engine that the config names: the package of nemo_cot.sampling called engine.kind."""

from __future__ import annotations

import importlib

from nemo_cot.config.engines import EngineConfig
from nemo_cot.sampling.job import SamplingJob


def sample(engine: EngineConfig, job: SamplingJob) -> None:
    """Write ``job.folder``/generations.jsonl. A run that was cut short goes on where it was.

    What an engine needs is imported with its package.
    """
    importlib.import_module(f"nemo_cot.sampling.{engine.kind}").sample(engine, job)
