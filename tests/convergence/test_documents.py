"""Certificate files as a stranger may write them: malformed, hostile, or mutated at random."""

import copy
import json
import os
import random
import re
import subprocess
import sys
import time
from fractions import Fraction

import pytest

from convergence import verifier
from convergence.theorems import all_theorems

GOOD = {
    "theorem": "t",
    "vectors": ["u", "v"],
    "positive": ["a", "b"],
    "nonnegative": ["n"],
    "real": ["x", "y"],
    "assumptions": {"fact": "x"},
    "steps": [
        {"name": "one", "region": {"a": "b + 1"}, "gap": "a*x**2", "terms": [{"multiplier": "a", "facts": [{"square": "x"}]}]},
        {"name": "two", "region": {}, "left": "(x + 1)**2", "right": "x**2 + 2*x + 1"},
        {"name": "three", "given": "y"},
        {
            "name": "four", "region": {}, "gap": "a*(m*y - m*y) + x**2",
            "terms": [{"multiplier": "1", "facts": [{"square": "x"}]}],
        },
    ],
}  # fmt: skip
GOOD["real"].append("m")


def changed(*where, to=None, **more):
    """GOOD with one part replaced, or with more top-level keys."""
    document = copy.deepcopy(GOOD) | more
    if where:
        part = document
        for key in where[:-1]:
            part = part[key]
        part[where[-1]] = to
    return document


def test_the_good_one_is_good():
    assert verifier.verify(copy.deepcopy(GOOD)) == 3


STEP = GOOD["steps"][0]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (changed("positive", to=["a", "b", "Dot(u, v)"]), "positive holds 'Dot(u, v)', which is no name of a symbol"),
        (changed("nonnegative", to=["Dot(u, u)"]), "nonnegative holds 'Dot(u, u)', which is no name"),
        (changed("nonnegative", to=["Dot"]), "nonnegative holds 'Dot', which is no name"),
        (changed("real", to=["x", "lambda"]), "real holds 'lambda', which is no name"),
        (changed("real", to=["ｘ"]), "which is no name"),
        (changed("real", to=["x", 3]), "real holds 3, which is no name"),
        (changed("nonnegative", to=["a"]), "the symbol a is declared twice, as positive and as nonnegative"),
        (changed("real", to=["x", "y", "x"]), "the symbol x is declared twice, as real and as real"),
        (changed("vectors", to=["u", "x"]), "the symbol x is declared twice, as vectors and as real"),
        (changed("real", to="xy"), "real is no list"),
        (changed("steps", to=[]), "there is nothing to verify"),
        (changed("steps", to=""), "there is nothing to verify"),
        (changed("steps", to={}), "there is nothing to verify"),
        (changed("steps", to=[{"name": "s", "given": "y"}]), "every step is in words"),
        (changed("steps", 0, to=STEP | {"left": "1", "right": "1"}), "one: a step is one of an identity, a gap with terms"),
        (changed("steps", 0, to={"name": "s", "region": {}, "gap": "-1"}), "s: a step is one of an identity"),
        (changed("steps", 1, to=GOOD["steps"][1] | {"gap": "-1"}), "the step two has an unknown key, 'gap'"),
        (changed("steps", 0, to=STEP | {"hint": "1"}), "the step one has an unknown key, 'hint'"),
        (changed("steps", 0, "region", to={"u": "a"}), "one: the region replaces u, which is no scalar"),
        (changed("steps", 0, "region", to={"a": "-b"}), "a is positive, and its value in the region, -b, is not evidently so"),
        (changed("steps", 0, "region", to={"a": "n"}), "a is positive, and its value in the region, n, is not evidently so"),
        (changed("steps", 0, "region", to={"n": "x"}), "n is not negative, and its value in the region, x, is not"),
        (changed("steps", 0, "region", to={"a": "a + 1"}), "the region's value of a holds a"),
        (changed("steps", 0, "region", to={"a": "b", "b": "n + 1"}), "the region's value of a holds b"),
        (changed("steps", 0, "region", to={"a": "u"}), "a vector where a number is needed"),
        (changed("steps", 0, "region", to={"q": "b"}), "the region replaces q, which is no scalar"),
        (changed("steps", 0, "region", to=[]), "its region, is no object"),
        (changed("steps", 0, "region", to={"a": 1}), "its region, is no object of texts"),
        (changed("steps", 0, "terms", to={}), "terms is no list"),
        (changed("steps", 0, "terms", to=["a"]), "one of terms is no object"),
        (changed("steps", 0, "terms", 0, "facts", to="x"), "one of terms is malformed"),
        (changed("steps", 0, "terms", 0, "facts", to=[{"square": 1}]), "is no fact"),
        (changed("steps", 0, "terms", 0, "facts", to=[{"square": "x", "norm": "u"}]), "is no fact"),
        (changed("steps", 0, "terms", 0, "facts", to=[["x"]]), "is no fact"),
        (changed("steps", 0, "terms", 0, "facts", to=[{"norm": "x"}]), "a number where a vector is needed"),
        (changed("steps", 0, "gap", to=3), "an expression is no text"),
        (changed("steps", 0, "gap", to="1.5"), "not an expression"),
        (changed("steps", 0, "gap", to="x # + 1"), "not an expression"),
        (changed("steps", 0, "gap", to="x\n"), "not an expression"),
        (changed("steps", 0, "gap", to=""), "not an expression"),
        (changed("steps", 0, "gap", to="ａ*x**2"), "not an expression"),
        (changed("steps", 0, "gap", to="Dot(u)"), "cannot read"),
        (changed("steps", 0, "gap", to="Dot(u, *v)"), "cannot read"),
        (changed("steps", 0, "gap", to="x*True"), "cannot read"),
        (changed("steps", 0, "name", to=""), "a step has no name"),
        (changed("steps", 0, "name", to=["one"]), "a step has no name"),
        (changed("steps", 0, to=None), "a step has no name"),
        (changed("steps", 0, "name", to="two"), "two: there are two facts of this name"),
        (changed("steps", 2, "name", to="fact"), "fact: there are two facts of this name"),
        (changed("steps", 2, "given", to="1/x"), "three: x is divided by"),
        (changed("assumptions", to=["x"]), "assumptions is no object of texts by name"),
        (changed("assumptions", "fact", to="u"), "fact: a vector where a number is needed"),
        (changed("assumptions", "fact", to="z"), "fact: cannot read 'z'"),
        (changed(nonzero={"fact": "x"}), "an assumption and something declared not to be 0 have the same name"),
        (changed(nonzero={"no": "x - x"}), "which is declared not to be 0"),
        (changed(nonzero=["x"]), "nonzero is no object of texts by name"),
        (changed(theorem=1), "theorem is no text"),
        (changed(positives=["x"]), "a certificate has an unknown key, 'positives'"),
        ({k: v for k, v in GOOD.items() if k != "real"}, "a certificate lacks 'real'"),
        ([GOOD], "a certificate is no object"),
        (None, "a certificate is no object"),
    ],
)  # fmt: skip
def test_malformed_documents_are_refused_by_name(document, message):
    with pytest.raises(verifier.Rejected) as refusal:
        verifier.verify(document)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            json.dumps(GOOD).replace('"theorem": "t"', '"theorem": "t", "real": ["x", "y", "m"]'),
            "the key 'real' is there twice",
        ),
        (json.dumps(GOOD).replace('"gap": "a*x**2"', '"gap": "-1", "gap": "a*x**2"'), "the key 'gap' is there twice"),
        (json.dumps(GOOD).replace('"fact": "x"', '"fact": "-1", "fact": "x"'), "the key 'fact' is there twice"),
        (json.dumps(GOOD).replace('"a*x**2"', "NaN"), "NaN is no number"),
        (json.dumps(GOOD).replace('"a*x**2"', "-Infinity"), "-Infinity is no number"),
        ("[" * 100_000, "too deep inside one another"),
        ('{"a":' * 100_000, "too deep inside one another"),
    ],
)
def test_what_json_lets_pass_is_refused(text, message):
    with pytest.raises(verifier.Rejected, match=message):
        verifier.loads(text)


def gap(text):
    return json.dumps(changed("steps", 0, "gap", to=text))


HOSTILE = {
    "a huge power": (gap("x**100000000"), "an exponent above 64"),
    "a huge number": (gap("10**100000000"), "an exponent above 64"),
    "a tower of numbers": (gap("((((9**64)**64)**64)**64)**64"), "bits"),
    "a tower of symbols": (gap("((((x + y)**64)**64)**64)**64"), "too much work"),
    "a tower of quotients": (gap("1/(1/(1/(a + b)**64)**64)**64"), "too much work"),
    "a large power": (gap("(1 + x)**3000"), "an exponent above 64"),
    "many monomials": (gap("(1 + x + y + a + b + n)**64"), "too much work"),
    "many factors": (gap("*".join(["(1 + x + y + a + b)"] * 50)), "too much work"),
    "five thousand signs": (gap("-" * 4_900 + "x"), "not an expression|inside one another"),
    "more signs": (gap("-" * 100_000 + "x"), "an expression of 100001 characters"),
    "five thousand terms": (gap("+".join(["x"] * 2_400)), "inside one another"),
    "deep nesting": (gap("(" * 2_000 + "x" + ")" * 2_000), "not an expression"),
    "deep calls": (gap("Dot(" * 1_000 + "u"), "not an expression"),
    "a long number": (gap("1" * 4_000), "bits"),
    "a longer number": (gap("1" * 4_999), "not an expression|bits"),
    "many steps": (json.dumps(changed("steps", to=[STEP | {"name": str(i), "region": {}} for i in range(8_000)])), "much work"),
    "many symbols": (json.dumps(changed("real", to=[f"x{i}" for i in range(60_000)])), "cannot read"),
    "many facts": (json.dumps(changed("steps", 0, "terms", 0, "facts", to=["fact"] * 80_000)), "too much work"),
    "one fact many times": (
        json.dumps(changed("assumptions", "fact", to="+".join(["x*y*a*b*n"] * 50)).copy() | {"steps": [
            {**STEP, "region": {}, "terms": [{"multiplier": "1", "facts": ["fact"]}] * 20_000}]}), "too much work"),
    "a large file": (" " * (verifier.FILE + 1), "bytes"),
    "a number with too many digits in JSON": ('{"theorem": ' + "9" * 100_000 + "}", "digits"),
    "no JSON": ("{", "Expecting"),
    "no text": (b"\xff\xfe", "decode"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_a_second(name, tmp_path, capsys):
    content, message = HOSTILE[name]
    hostile, good = tmp_path / "hostile.json", tmp_path / "good.json"
    hostile.write_bytes(content if isinstance(content, bytes) else content.encode())
    good.write_text(json.dumps(GOOD))
    start = time.process_time()
    assert verifier.main([str(hostile), str(good)]) == 1
    seconds = time.process_time() - start
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("REJECTED")
    assert any(part in first for part in message.split("|"))
    assert second.startswith("accepted"), "the next file is still read"
    assert seconds < 2, "a second, on a machine with nothing else to do"


def test_what_is_no_file_is_refused(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = subprocess.run(
        [sys.executable, verifier.__file__, pipe, tmp_path, "/dev/zero"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.count("REJECTED") == done.stdout.count("not a file") == 3


# Documents at random: true ones with something changed, and small ones made of pieces. Whatever is accepted must hold where it
# is tried.

PIECES = ["x", "y", "a", "b", "n", "1", "2", "0", "-1", "x - y", "a - b", "1/a", "1/x", "1/(a - b)", "x**2", "Dot(u, v)",
          "Dot(u, u)", "u", "u + v", "a*x", "(x - 1)**2", "b + 1", "a + n", "-b", "x/x", "1/(1 + n)", "p", ""]  # fmt: skip


def made(draw):
    """A small document from pieces."""

    def region():
        return {draw.choice("abnxyu"): draw.choice(PIECES) for _ in range(draw.choice((0, 0, 1, 2)))}

    def facts():
        kinds = (lambda: {"square": draw.choice(PIECES)}, lambda: {"norm": draw.choice(PIECES)},
                 lambda: draw.choice(("fact", "s0", "s1", "none")))  # fmt: skip
        return [draw.choice(kinds)() for _ in range(draw.choice((0, 1, 1, 2)))]

    def step(i):
        if draw.random() < 0.2:
            return {"name": f"s{i}", "region": region(), "left": draw.choice(PIECES), "right": draw.choice(PIECES)}
        terms = [{"multiplier": draw.choice(PIECES), "facts": facts()} for _ in range(draw.choice((1, 1, 2)))]

        # Most random gaps are refused as not equal; the product of the first term is one that could pass.
        def value(fact):
            if isinstance(fact, str):
                return {"fact": document["assumptions"]["fact"]}.get(fact, "1")
            return f"({fact['square']})**2" if "square" in fact else f"Dot({fact['norm']}, {fact['norm']})"

        product = " + ".join(
            "*".join(f"({part})" for part in (term["multiplier"], *(value(fact) for fact in term["facts"]))) for term in terms
        )
        return {
            "name": f"s{i}",
            "region": region(),
            "gap": draw.choice((product, product, draw.choice(PIECES))),
            "terms": terms,
        }

    document = {
        "theorem": "fuzz", "vectors": ["u", "v"], "positive": ["a", "b"], "nonnegative": ["n"], "real": ["x", "y"],
        "assumptions": {"fact": draw.choice(PIECES)}, "nonzero": {"no": draw.choice(PIECES)} if draw.random() < 0.3 else {},
    }  # fmt: skip
    document["steps"] = [step(i) for i in range(draw.choice((1, 2)))]
    return document


def places(part, here=()):
    """Every place in a document."""
    yield here
    for key, inner in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        yield from places(inner, (*here, key))


def mutated(draw, document):
    """A document with one place changed, or two."""
    document = copy.deepcopy(document)
    for _ in range(draw.choice((1, 1, 2))):
        where = draw.choice([place for place in places(document) if place])
        part = document
        for key in where[:-1]:
            part = part[key]
        old = part[where[-1]]
        others = [None, 1, [], {}, "", "x", "-1", old, [old], {"name": old}, draw.choice(PIECES)]
        if isinstance(old, str):
            others += [f"-({old})", f"({old}) - 1", f"({old})*(1 - 2)", f"1/({old})", old[1:], f"{old}{old}"] * 2
        part[where[-1]] = draw.choice(others)
    return document


def assumed(document, at):
    """Whether the assumptions hold at a point."""
    # What was argued in words is taken for granted, and so is what a sum says of letters that stand for it.
    granted = [step.get("given", step.get("gap")) for step in document["steps"] if "given" in step or "of" in step]
    return all(evaluate(text, at) != 0 for text in document.get("nonzero", {}).values()) and all(
        evaluate(text, at) >= 0 for text in (*document["assumptions"].values(), *granted)
    )


def holds(document, draw):
    """Whether what was accepted is true at random points where the assumptions are."""
    kinds = {name: kind for kind in ("vectors", "positive", "nonnegative", "real") for name in document[kind]}
    for _ in range(40):
        scalar = {
            "positive": lambda: Fraction(draw.randint(1, 6), draw.randint(1, 3)),
            "nonnegative": lambda: Fraction(draw.randint(0, 6), draw.randint(1, 3)),
            "real": lambda: Fraction(draw.randint(-6, 6), draw.randint(1, 3)),
            "vectors": lambda: Vector(Fraction(draw.randint(-3, 3)) for _ in range(2)),
        }
        at = {name: scalar[kind]() for name, kind in kinds.items()}
        if not assumed(document, at):
            continue
        for step in document["steps"]:
            if "given" in step or "of" in step:
                continue
            there = at | {key: evaluate(text, at) for key, text in step["region"].items()}
            if not assumed(document, there):  # a region may lead where they do not hold
                continue
            if "left" in step:
                if evaluate(step["left"], there) != evaluate(step["right"], there):
                    return False
            elif evaluate(step["gap"], there) < 0:
                return False
    return True


class Vector(tuple):
    """Of fractions, with the operations that certificates use."""

    def __new__(cls, entries):
        return super().__new__(cls, entries)

    def __add__(self, other):
        return Vector(a + b for a, b in zip(self, other, strict=True))

    def __sub__(self, other):
        return Vector(a - b for a, b in zip(self, other, strict=True))

    def __mul__(self, by):
        return Vector(a * by for a in self)

    __rmul__ = __mul__

    def __truediv__(self, by):
        return Vector(a / by for a in self)

    def __neg__(self):
        return Vector(-a for a in self)


def evaluate(text, at):
    """The value of an accepted expression: arithmetic with names, which the verifier has seen to."""
    names = at | {"Dot": lambda u, v: 0 if 0 in (u, v) else sum(a * b for a, b in zip(u, v, strict=True)), "_F": Fraction}
    exact = "".join(f"_F({part})" if part.isdigit() else part for part in _split(text))
    return eval(exact, {"__builtins__": {}}, names)


def _split(text):
    return re.findall(r"[A-Za-z_]\w*|\*\*-?\d+|\*\*|\d+|.", text)


def fuzz(count, seed=0):
    """How many random documents were accepted; fails on a traceback, a hang or a false acceptance."""
    draw, accepted = random.Random(seed), 0
    true = [theorem.document() for theorem in all_theorems()]
    for _ in range(count):
        document = mutated(draw, draw.choice((*true, GOOD))) if draw.random() < 0.4 else made(draw)
        start = time.process_time()
        try:
            verifier.verify(verifier.loads(json.dumps(document)))
        except verifier.Rejected:
            pass
        else:
            accepted += 1
            assert holds(document, draw), f"accepted, and false: {json.dumps(document)}"
        assert time.process_time() - start < 5, f"too slow: {json.dumps(document)}"
    return accepted


def test_documents_at_random():
    count = int(os.environ.get("FUZZ", "600"))
    accepted = fuzz(count)
    assert accepted > count / 100, "a fuzz in which nothing is accepted shows nothing about what is"
