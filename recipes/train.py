"""train: packed SFT of the base model on the curated traces."""

from collections.abc import Iterator

from nemo_cot.config import Config
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.stages import Stage
from nemo_cot.training.backend import backend_of


def train(cfg: Config) -> Iterator[Stage]:
    """Train with the backend of train.backend, the package nemo_cot.training.NAME; local writes model/ and
    metrics.jsonl.
    """
    yield backend_of(cfg.train).train_stage(cfg)


if __name__ == "__main__":
    recipe_main(train)
