"""Figures over graded answers: metrics, their intervals, comparisons between runs."""
