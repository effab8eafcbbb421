"""Problem sets: procedural ones and files."""

from nemo_cot.problems.sources import ProblemSet, make_problems, problem_files

__all__ = ["ProblemSet", "make_problems", "problem_files"]
