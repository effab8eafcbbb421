"""200 strings that a shell, sbatch or JSON could take for more than text."""

from __future__ import annotations

import random

_PARTS = (
    "$(touch PWNED)", "`touch PWNED`", ";touch PWNED;", "&& touch PWNED", "| touch PWNED", "> PWNED", "\ntouch PWNED\n",
    "\n#SBATCH --output=PWNED\n", "${IFS}touch${IFS}PWNED", "$HOME", "$SLURM_JOB_ID", "%j", "%%", "\\", "\\n", "'", '"',
    "''", '"; touch PWNED; "', "'; touch PWNED; '", " ", "  ", "\t", "\r\n", "*", "?", "[a-z]", "{a,b}", "~", "!", "!!",
    "#", "=", "--wrap=touch PWNED", "-o", "é", "中文", "\u202e", "\u2028", "\x1b[2J", "\x07", "🙂", "{{ 7*7 }}",
    "{% raw %}", "${oc.env:HOME}", "null", "0", "../", "/", "\x7f", "EOF", "$((1+1))", "\\$(touch PWNED)", "\u2019",
)  # fmt: skip


def hostile_strings(count: int = 200) -> list[str]:
    """Each part alone, and sums of several; the same every time."""
    draw = random.Random(7)
    found = dict.fromkeys(_PARTS)
    while len(found) < count:
        found["".join(draw.sample(_PARTS, draw.randint(2, 5)))] = None
    return list(found)
