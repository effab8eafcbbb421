"""hf_to_nemo: convert the base model to the trainer's own format. Run it in the training container."""

from collections.abc import Iterator

from nemo_cot.config import Config
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.stages import Stage
from nemo_cot.training.backend import backend_of


def hf_to_nemo(cfg: Config) -> Iterator[Stage]:
    """Write model/, for a trainer that does not read Hugging Face directories (NeMo-Aligner)."""
    if (stage := backend_of(cfg.train).base_stage(cfg)) is not None:
        yield stage


if __name__ == "__main__":
    recipe_main(hf_to_nemo)
