"""See the package."""

from lightning.pytorch.trainer import *  # noqa: F403
