"""nemo-cot show: the resolved config."""

from __future__ import annotations

from collections.abc import Sequence

from nemo_cot.experiment.compose import compose_config, to_dataclasses, to_yaml


def print_config(overrides: Sequence[str]) -> int:
    """Print it, once it has been checked. Returns 0. Raises UserError."""
    tree = compose_config(overrides)
    to_dataclasses(tree.copy())
    print(to_yaml(tree), end="")
    return 0
