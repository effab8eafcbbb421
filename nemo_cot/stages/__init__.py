"""The stage engine: manifests, fingerprints, skipping, resuming, locks."""

from nemo_cot.stages.engine import StageResult, run_stage
from nemo_cot.stages.rundir import RunDirectory
from nemo_cot.stages.stage import Earlier, Output, Source, Stage

__all__ = ["Earlier", "Output", "RunDirectory", "Source", "Stage", "StageResult", "run_stage"]
