"""Problem sets: procedural ones and files."""

from nemo_cot.problems.sources import ProblemSet, make_problems

__all__ = ["ProblemSet", "make_problems"]
