"""Is this answer right? Extraction, typed comparison, killable workers, NeMo-Skills' verdict beside ours."""

from nemo_cot.grading.batch import grade, grade_many, nemo_skills_verdicts
from nemo_cot.grading.extraction import Extraction, extract, extract_answer
from nemo_cot.grading.verdict import Verdict, grader_version

GRADER_VERSION: str = grader_version()
"""Versions of the rules and of the libraries below them: verdicts may move only when it does."""

__all__ = [
    "GRADER_VERSION",
    "Extraction",
    "Verdict",
    "extract",
    "extract_answer",
    "grade",
    "grade_many",
    "nemo_skills_verdicts",
]
