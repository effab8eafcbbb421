"""Lightning under its former name, for NeMo-Skills' converters.

NeMo 2.1 is written for `lightning.pytorch`; the converters import `pytorch_lightning`, a package of its own with
classes of its own, whose Trainer refuses NeMo's strategy ("You selected an invalid strategy name").
"""

from lightning.pytorch import *  # noqa: F403
