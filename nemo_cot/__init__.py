"""nemo-cot: teach a base model to reason from 20 long chain-of-thought traces.

conf, recipes and launchers here are links to the folders beside this one, so that a wheel holds one package
with everything in it.
"""

from pathlib import Path

__version__ = "0.1.0"

ROOT = Path(__file__).resolve().parent
"""The folder that holds conf/, recipes/ and launchers/."""
