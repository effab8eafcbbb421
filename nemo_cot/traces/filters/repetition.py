"""repetition: drop traces that repeat themselves: by n-grams, by how far they compress, or by a loop at the
end.
"""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cot.traces.filters import Context, Drops


@dataclass(frozen=True)
class Filter:
    """Bounds on measures of nemo_cot/traces/structure; null: none. ``most_ngrams``: the share of word 8-grams
    that stood before (repeated_ngrams); ``least_compression``: compressed by plain size (compression);
    ``most_loop``: the share of the words that is a loop at the end (loop). At least one must be given.
    """

    most_ngrams: float | None = None
    least_compression: float | None = None
    most_loop: float | None = None

    def __post_init__(self) -> None:
        bounds = (self.most_ngrams, self.least_compression, self.most_loop)
        if all(bound is None for bound in bounds):
            raise ValueError("no bound is given")
        if not all(bound is None or 0 <= bound <= 1 for bound in bounds):
            raise ValueError("a bound is a share between 0 and 1")

    def bind(self, context: Context) -> Drops:
        """Counted as repetition_ngrams, repetition_compression or repetition_loop."""

        def drops(trace, length: int) -> bool | str:
            view = context.view(trace, length)
            if self.most_ngrams is not None and view.measured("repeated_ngrams") > self.most_ngrams:
                return "repetition_ngrams"
            if self.least_compression is not None and view.measured("compression") < self.least_compression:
                return "repetition_compression"
            if self.most_loop is not None and view.measured("loop") > self.most_loop:
                return "repetition_loop"
            return False

        return drops
