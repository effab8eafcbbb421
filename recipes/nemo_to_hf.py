"""nemo_to_hf: the trained model of a NeMo backend as a Hugging Face directory. Run it in the container."""

from collections.abc import Iterator

from nemo_cot.config import Config
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.stages import Stage
from nemo_cot.training.backend import backend_of


def nemo_to_hf(cfg: Config) -> Iterator[Stage]:
    """Write model/ (weights, config, tokenizer): of the last step, or the mean of several steps."""
    if (stage := backend_of(cfg.train).export_stage(cfg)) is not None:
        yield stage


if __name__ == "__main__":
    recipe_main(nemo_to_hf)
