"""Preflight: what is wrong with a config, and what it will cost, before anything runs."""

from nemo_cot.preflight.rules import Finding, preflight

__all__ = ["Finding", "preflight"]
