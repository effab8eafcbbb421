"""Every class of answer in both directions: what must be right, and the near miss that must not be."""

import pytest
from nemo_cot.grading import grade

CASES = r'''
16|016|right
98,118,122,142|98118122142|wrong
98,118,122,142|142,118,98,122|right
98,118,122,142|98, 118, 122|wrong
6,6,6,5,5,6,6,7|5,6,7|wrong
6,6,6,5,5,6,6,7|5,5,6,6,6,6,6,7|wrong
1,1,2|2,1,1|right
1,1,2|1,2|wrong
$p=5$ and all primes $p \equiv \pm 1(\bmod 5)$|5|undecided
$\frac{-1+\sqrt{17}}{2}, \frac{-1-\sqrt{17}}{2}$|\frac{-1\pm\sqrt{17}}{2}|right
$\frac{-1+\sqrt{17}}{2}, \frac{-1-\sqrt{17}}{2}$|\frac{1\pm\sqrt{17}}{2}|wrong
(1,2]|1<x\le 2|right
(1,2]|1<x<2|wrong
30^\circ|\pi/6|right
30^\circ|30|right
30^\circ|\pi/3|wrong
\pi/6|30|wrong
2\sqrt{3}|2√3|right
7/2|3 1/2|right
7/2|3\frac12|right
12345|12\,345|right
5|The answer is 5|right
5|5,;|right
5|5}|right
5|--5|wrong
1-2/\pi|0.3633802276|right
1-2/\pi|0.363|wrong
1-2/\pi|0.3633802277|wrong
x=5|5|right
5|x=5|right
x=5|y=5|wrong
y=2x+3|2x+3|right
5x - 7y + 11z + 4 = 0|-5x+7y-11z-4=0|right
5x - 7y + 11z + 4 = 0|-5x+7y-11z+4=0|wrong
5x - 7y + 11z + 4 = 0|0|undecided
58,500|58500|right
58,500|58501|wrong
\$32,\!348|32348|right
864 \mbox{ inches}^2|864|right
864 \mbox{ inches}^2|6 square feet|right
5.4 \text{ cents}|5.4 dollars|wrong
\frac{270}7\text{ degrees}|270/7|right
\text{(C)}|C|right
\text{(C)}|(D)|wrong
C|\textbf{(C)}\ 12|right
\{1\pm\sqrt{5},-2\}|-2,1-\sqrt5,1+\sqrt5|right
\begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix}|\frac13\begin{bmatrix} -1 \\ 2 \\ 5 \end{bmatrix}|right
x \in [-2,7]|-2 \le x \le 7|right
(-\infty, 2) \cup (3, \infty)|x<2 \text{ or } x>3|right
(0,9) \cup (9,36)|(0,36)|wrong
\text{Evelyn}|Evelyn|right
\text{Evelyn}|Navin|wrong
6-5i|-5i+6|right
6-5i|6+5i|wrong
0.5|50%|right
50%|0.5|right
50%|5|wrong
20|20\%|right
(3,4)|(4,3)|wrong
(3,4)|3,4|right
\left(-\frac{13}{96}, \frac{13}{40}\right)|(-13/96,13/40)|right
0, \pm i \sqrt{6}|-i\sqrt{6},0,i\sqrt6|right
224, -176|-176,224|right
52_8|52_{8}|right
52_8|52_9|wrong
$25 / 3$|\frac{25}{3}|right
10,\!080|10080|right
\frac{1}{3}|0.\overline{3}|right
1/3|0.333|wrong
5|a+b=5|right
4|x^2=4|undecided
5|2+3=5|right
-5|−5|right
5|5\text{ cm}|right
5|6\text{ cm}|wrong
\sqrt{2}|2^{1/2}|right
x^2-1|(x-1)(x+1)|right
3R^2|3r^2|wrong
'''


@pytest.mark.parametrize("line", [c for c in CASES.splitlines() if c])
def test_case(line):
    gold, prediction, expected = line.split("|")
    assert grade(gold, prediction).outcome == expected
