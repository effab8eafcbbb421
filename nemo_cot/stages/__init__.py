"""The stage engine: manifests, fingerprints, skipping, resuming, locks."""

from nemo_cot.stages.engine import Stage, StageResult, run_stage
from nemo_cot.stages.rundir import RunDirectory

__all__ = ["RunDirectory", "Stage", "StageResult", "run_stage"]
