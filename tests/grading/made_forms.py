"""Made pairs of lists, sets, families, equations, ratios, choices and spellings."""

from __future__ import annotations

from tests.grading.made_pairs import maker

# fmt: off  (rows of a table)


@maker
def assignments(draw):
    for _ in range(14):
        a, b, c, d = draw.sample(range(-9, 20), 4)
        gold = rf"x={a},y={b}\text{{ or }}x={c},y={d}"
        for g in (gold, f"x={a}, y={b}; x={c}, y={d}", f"({a},{b}),({c},{d})"):
            for answer in (gold, f"({c},{d}), ({a},{b})", f"x={c}, y={d}; x={a}, y={b}", rf"(x,y)=({a},{b})\text{{ or }}({c},{d})",
                           f"y={b}, x={a} or y={d}, x={c}"):  # fmt: skip
                yield g, answer, "right"
            for answer in (
                f"{a},{b},{c},{d}",
                f"({b},{a}),({c},{d})",
                f"({a},{d}),({c},{b})",
                f"x={a}, y={d}; x={c}, y={b}",
            ):
                yield g, answer, "not"
        yield f"x={a}, y={b}", f"({a},{b})", "right"
        yield f"x={a}, y={b}", f"y={b}, x={a}", "right"
        yield f"x={a}, y={b}", f"({b},{a})", "not"
        yield str(abs(a) + 2), f"|x|={abs(a) + 2}", "not"


@maker
def letters(draw):
    for body in (r"\frac{x^3}{3}", r"\ln|x|", r"\sin x", r"e^x", r"x^2-x", r"\frac{1}{2}\ln(x^2+1)"):
        for c in ("c", "K", "k", "C"):
            yield f"{body}+C", f"{body}+{c}", "right"
            yield f"{body}+C", f"2{body}+{c}", "not"
            yield f"{body}+C", f"{body}-2{c}x", "not"
    for n in range(2, 9):
        yield f"{n}k+1", f"{n}n+1", "not"
        yield f"{n}k+1", f"{n}k+2", "not"
    for g, a in (
        ("z^2", "|z|^2"),
        ("z", "|z|"),
        ("w^2+1", "|w|^2+1"),
        ("x", "|x|"),
        ("R^2", "r^2"),
        ("a+b", "a+B"),
        ("Ax", "ax"),
    ):
        yield g, a, "not"


@maker
def ratios(draw):
    for _ in range(12):
        a, b, k = draw.randint(1, 9), draw.randint(10, 19), draw.randint(2, 5)
        yield f"{a}:{b}", f"{k * a}:{k * b}", "right" if k * b > 59 or b < 10 else "not"
        yield f"{a}:{b}", f"{b}:{a}", "not"
        a, b = draw.sample(range(1, 9), 2)
        for answer in (
            rf"\frac{{{a}}}{{{b}}}",
            f"{a}/{b}",
            f"{a} : {b}",
            rf"{a}\text{{ to }}{b}",
            f"{k * a}:{k * b}",
        ):
            yield f"{a}:{b}", answer, "right"
        for answer in (f"{b}:{a}", rf"\frac{{{b}}}{{{a}}}", f"{a}:{b + 1}", f"{a}:{b}:1"):
            yield f"{a}:{b}", answer, "not"
        yield f"{a}:{b}:{k}", f"{2 * a}:{2 * b}:{2 * k}", "right"
        minutes = draw.randint(10, 59)
        for half in ("pm", "p.m.", "PM", r"\text{ p.m.}", r"\text{ pm}"):
            yield rf"{a}:{minutes}\text{{ p.m.}}", f"{a}:{minutes} {half}", "right"
            yield rf"{a}:{minutes}\text{{ a.m.}}", f"{a}:{minutes} {half}", "not"
            yield rf"{a}:{minutes}\text{{ p.m.}}", f"{a}:{minutes - 1} {half}", "not"
        yield f"{a}:{minutes}", f"{a}:{minutes}", "right"
        yield f"{a}:{minutes}", f"{a + 1}:{minutes}", "not"


@maker
def residues(draw):
    for _ in range(12):
        m = draw.randint(3, 19)
        a = draw.randrange(1, m)
        gold = rf"x\equiv {a}\pmod{{{m}}}"
        for answer in (rf"{a}\pmod{{{m}}}", rf"x \equiv {a + m} \pmod {{{m}}}", rf"x\equiv {a - m}\ (\text{{mod }}{m})", rf"x\equiv {a} \mod {m}",
                       rf"{m}k+{a}, k\in\mathbb{{Z}}", rf"x={m}n+{a},\ n \in \mathbb{{Z}}", rf"x={a}+{m}t \text{{ for any integer }} t",
                       rf"x\equiv {a}\ (\bmod\ {m})", rf"{a} (mod {m})"):  # fmt: skip
            yield gold, answer, "right"
        for answer in (
            rf"{a + 1}\pmod{{{m}}}",
            rf"x\equiv {a}\pmod{{{m + 1}}}",
            str(a),
            rf"{2 * m}k+{a}, k\in\mathbb{{Z}}",
            rf"-{a}\pmod{{{m}}}" if 2 * a != m else "0",
        ):
            yield gold, answer, "not"
        yield str(a), rf"{a}\pmod{{{m}}}", "not"


@maker
def families(draw):
    for a in (r"\frac{\pi}{4}", r"\frac{\pi}{3}", "0", r"\frac{\pi}{6}", r"-\frac{\pi}{4}"):
        for d in (r"\pi", r"2\pi", r"\frac{\pi}{2}"):
            gold = rf"{a}+n{d}, n\in\mathbb{{Z}}"
            for answer in (rf"{a}+k{d},\ k\in\mathbb Z", rf"x={a}+{d} k, k \in \mathbb{{Z}}", rf"{a}-n{d}, n\in\mathbb Z", rf"{a}+n{d} \text{{ for }} n \in \mathbb{{Z}}",
                           rf"{a}+n{d} \text{{ where }} n \text{{ is an integer}}", rf"{a}+(n+1){d} (n\in\mathbb Z)", rf"{a}+m{d}, \text{{ where }} m\in\mathbb{{Z}}",
                           rf"\left\{{{a}+n{d} \mid n\in\mathbb{{Z}}\right\}}", rf"{a}+k{d} \text{{ for any integer }} k"):  # fmt: skip
                yield gold, answer, "right"
            for answer in (
                rf"{a}+3n{d}, n\in\mathbb Z",
                rf"\frac{{\pi}}{{7}}+n{d}, n\in\mathbb Z",
                a,
                rf"{a}+n{d}+\frac{{\pi}}{{5}}, n\in\mathbb Z",
            ):
                yield gold, answer, "not"
    yield r"\pm\frac{\pi}{2}+2\pi n, n\in\mathbb Z", r"\frac{\pi}{2}+\pi k, k\in\mathbb Z", "right"
    yield r"\pm\frac{\pi}{3}+2\pi n, n\in\mathbb Z", r"\frac{\pi}{3}+\pi k, k\in\mathbb Z", "not"
    yield r"n\pi, n\in\mathbb Z", r"2n\pi, (2n+1)\pi, n\in\mathbb Z", "right"


@maker
def sets(draw):
    for _ in range(12):
        a = draw.randint(-9, 5)
        b, c = a + draw.randint(1, 6), a + draw.randint(8, 15)
        cases = {
            f"[{a},{b}]": (rf"{a}\le x\le {b}", rf"\{{x : {a}\le x\le {b}\}}", rf"\{{x\in\mathbb{{R}}\mid {a}\le x\le {b}\}}", rf"x\in[{a},{b}]", rf"{b}\ge x\ge {a}"),
            f"({a},{b})": (f"]{a},{b}[", rf"{a}<x<{b}", rf"\{{x \mid {a} < x < {b}\}}", rf"x>{a} \text{{ and }} x<{b}"),
            f"[{a},{b})": (f"[{a},{b}[", rf"{a}\leq x<{b}", rf"[{a},{b})"),
            f"({a},{b}]": (f"]{a},{b}]", rf"{a}<x\leq {b}"),
            rf"[{a},{b}]\cup\{{{c}\}}": (rf"{a}\le x\le {b}\text{{ or }}x={c}", rf"\{{{c}\}}\cup[{a},{b}]", rf"x\in[{a},{b}]\cup\{{{c}\}}", rf"x={c} \text{{ or }} {a}\le x\le {b}"),
            rf"(-\infty,{a})\cup({b},\infty)": (rf"x<{a}\text{{ or }}x>{b}", rf"\mathbb{{R}}\setminus[{a},{b}]", rf"]-\infty,{a}[\cup]{b},\infty["),
        }  # fmt: skip
        for gold, spellings in cases.items():
            for answer in spellings:
                yield gold, answer, "right"
                yield answer, gold, "right"
                for other in cases:
                    if other != gold:
                        yield other, answer, "not"
        d = draw.randint(1, 9)
        yield f"[-{d},{d}]", rf"|x|\le {d}", "right"
        yield f"({a - d},{a + d})", rf"|x-{a}|<{d}" if a >= 0 else f"|x+{-a}|<{d}", "right"
        yield rf"(-\infty,-{d})\cup({d},\infty)", f"|x|>{d}", "right"
        yield f"[-{d},{d}]", rf"|x|< {d}", "not"
        yield f"[-{d},{d}]", rf"|x|\ge {d}", "not"
        yield f"x>{d}", f"2x>{2 * d}", "right"
        yield f"x>{d}", f"-x>{d}", "not"
        yield f"x<-{d}", f"-x>{d}", "right"


@maker
def spellings(draw):
    for _ in range(8):
        a, b = draw.randint(2, 9), draw.randint(11, 30)
        half = rf"\frac{{{a}}}{{{b}}}"
        for answer in (rf"{{{a} \over {b}}}", rf"{a} \over {b}", rf"\color{{red}}{{{half}}}", rf"\textcolor{{blue}}{{{half}}}", rf"\underline{{{half}}}", rf"{{\Large {half}}}",
                       rf"\boxed{{{half}}}", rf"\large{{{half}}}", rf"\color{{red}} {half}", rf"\displaystyle {half}", f"\x0crac{{{a}}}{{{b}}}", rf"\cfrac{{{a}}}{{{b}}}",
                       rf"{half}\text{{ (in lowest terms)}}" if False else half, rf"{half} \text{{ since it is so}}"):  # fmt: skip
            yield half, answer, "right"
            yield rf"\frac{{{a}}}{{{b + 1}}}", answer, "not"
        yield rf"\binom{{{b}}}{{{a}}}", rf"{{{b} \choose {a}}}", "right"
        yield rf"\binom{{n}}{{{a}}}", rf"{{n \choose {a}}}", "right"
        yield rf"\binom{{{b}}}{{{a}}}", rf"{{{a} \choose {b}}}", "not"
        yield rf"{a}e^{b}", rf"{a}\mathrm e^{b}", "right"
        yield rf"e^{{{a}}}", rf"\mathrm{{e}}^{{{a}}}", "right"
        yield str(b), rf"{b}\text{{ (since it is prime)}}", "right"
        yield str(b), rf"{b + 1}\text{{ (since it is prime)}}", "not"
        yield str(b), rf"{b} \text{{ because of symmetry}}", "right"
        for cjk, unit in (
            ("厘米", "cm"),
            ("米", "m"),
            ("千克", "kg"),
            ("小时", "hours"),
            ("元", None),
            ("个", None),
            ("人", None),
        ):
            yield str(b), rf"{b}\text{{ {cjk}}}", "right"
            yield str(b + 1), rf"{b}\text{{ {cjk}}}", "not"
            if unit:
                yield rf"{b}\text{{ {unit}}}", rf"{b}\text{{{cjk}}}", "right"
    for f in ("f(x)=x", "f(x)=2x+1", "f(x)=0", "f(x)=x^2"):
        for tail in (
            r"\text{ for all real }x",
            r"\text{ for all }x",
            r",\ \forall x\in\mathbb{R}",
            r" \text{ for all } x\in\mathbb{R}",
            r" \quad \forall x",
            r"\text{ for all real numbers }x",
        ):
            yield f, f + tail, "right"
            yield f + "+1", f + tail, "not"


@maker
def choices(draw):
    for letter in "ABCDE":
        n = draw.randint(2, 60)
        other = "ABCDE"["ABCDE".index(letter) - 1]
        for gold in (
            rf"\textbf{{({letter}) }} {n}",
            rf"\text{{({letter})}}\ {n}",
            f"({letter}) {n}",
            rf"\textbf{{({letter})}}~{n}",
        ):
            for answer in (
                letter,
                f"({letter})",
                rf"\text{{{letter}}}",
                str(n),
                f"({letter}) {n}",
                rf"\textbf{{({letter})}} {n}",
                f"Option {letter}",
            ):
                yield gold, answer, "right"
            for answer in (other, f"({other})", str(n + 1), f"({other}) {n + 1}"):
                yield gold, answer, "not"
        for answer in (
            f"{letter}: 3, {other}: 4",
            f"{letter} or {other}",
            f"{letter}, {other}",
            f"{letter} and {other}",
            rf"{letter}\text{{ or }}{other}",
            f"({letter}) or ({other})",
            other,
        ):
            yield letter, answer, "not"


@maker
def progressions(draw):
    for _ in range(8):
        a, d, n = draw.randint(0, 9), draw.randint(2, 7), draw.randint(20, 90)
        t = [a + d * k for k in range(6)]
        last = a + d * n
        gold = rf"{t[0]},{t[1]},{t[2]},\ldots,{last}"
        for answer in (
            rf"{t[0]},{t[1]},{t[2]},{t[3]},\ldots,{last}",
            rf"{t[0]}, {t[1]}, {t[2]}, \dots, {last}",
            f"{t[0]}, {t[1]}, {t[2]}, ..., {last}",
            rf"\{{{t[0]},{t[1]},{t[2]},{t[3]},\ldots,{last}\}}",
        ):
            yield gold, answer, "right"
        for answer in (
            rf"{t[0]},{t[1]},{t[2]},\ldots,{last + d}",
            rf"{t[1]},{t[2]},{t[3]},\ldots,{last}",
            rf"{t[0]},{t[1]},{t[2]},\ldots",
            f"{t[0]},{t[1]},{t[2]},{last}",
        ):
            yield gold, answer, "not"


@maker
def piecewise(draw):
    for a, b in ((1, 0), (2, 1), (3, 5)):
        gold = rf"f(x)=\begin{{cases}} {a}x & x>{b} \\ -x & x\le {b}\end{{cases}}"
        rows = rf"-x, & \text{{if }} x\le {b} \\ {a}x, & \text{{if }} x>{b}"
        yield gold, rf"\begin{{cases}}{rows}\end{{cases}}", "right"
        yield gold, rf"f(x)=\begin{{cases}}{rows}\end{{cases}}", "right"
        yield (
            gold,
            rf"f(x)=\begin{{cases}} {a}x & \text{{for }} x>{b} \\ -x & \text{{for }} x\leq {b}\end{{cases}}",
            "right",
        )
        yield gold, rf"f(x)=\begin{{cases}} {a + 1}x & x>{b} \\ -x & x\le {b}\end{{cases}}", "not"
        yield gold, rf"f(x)=\begin{{cases}} -x & x>{b} \\ {a}x & x\le {b}\end{{cases}}", "not"
        yield gold, f"{a}x", "not"
        yield f"x={a}, y={b}", rf"\begin{{cases}}x={a}\\y={b}\end{{cases}}", "right"


@maker
def chains(draw):
    for _ in range(20):
        a, b, c = (draw.randint(1, 20) for _ in range(3))
        total = a - b - c
        yield str(total), f"{a} - {b} - {c} = {total}", "right"
        yield str(total), f"{a} - {b} - {c} = {total + 1}", "not"
        yield str(total), f"{a} + {b} - {c} = {total}" if b else "0", "not"
        yield str(total), f"x = {a} - {b} - {c} = {total}", "right"
        yield (
            rf"\frac{{{a}}}{{{b + 40}}}",
            rf"\frac{{{2 * a}}}{{{2 * b + 80}}} = \frac{{{a}}}{{{b + 40}}}",
            "right",
        )


@maker
def lists_and_points(draw):
    for _ in range(20):
        a, b, c = draw.sample(range(-20, 40), 3)
        yield f"{a}, {b}, {c}", f"{c}, {a}, {b}", "right"
        yield f"{a}, {b}, {c}", rf"\{{{c}, {b}, {a}\}}", "right"
        yield f"{a}, {b}, {c}", f"{a}, {b}", "not"
        yield f"{a}, {b}, {c}", f"{a}, {b}, {c + 1}", "not"
        yield f"({a},{b},{c})", f"({a}, {b}, {c})", "right"
        yield f"({a},{b},{c})", f"({b},{a},{c})", "not"
        yield f"({a},{b},{c})", rf"\begin{{pmatrix}}{a}\\{b}\\{c}\end{{pmatrix}}", "right"
        yield (
            rf"\begin{{pmatrix}}{a}\\{b}\\{c}\end{{pmatrix}}",
            rf"{a}\mathbf{{i}}+{b}\mathbf j+{c + 1}\mathbf k",
            "not",
        )
        yield f"{a} \\text{{ and }} {b}", f"{b}, {a}", "right"
        yield f"{a}, {b}", rf"x={a} \text{{ or }} x={b}", "right"
        yield f"{a}", rf"x={a} \text{{ or }} x={b}", "not"
