"""The names of the figures whose paired differences are reported."""

from __future__ import annotations

COMPARED = (
    "lenient", "strict", "format_rate", "pass_at_k", "majority_string", "majority_equivalence",
    "nemo_skills_pass_at_1", "nemo_skills_majority",
)  # fmt: skip
