"""The stage engine: manifests, fingerprints, skipping, resuming, one lock a run directory."""

from nemo_cot.stages.engine import Stage, StageResult, run_stage
from nemo_cot.stages.rundir import RunDirectory

__all__ = ["RunDirectory", "Stage", "StageResult", "run_stage"]
