"""The open-class words of the acceptability task, each class split into training words and held-out words.

The dev sentences use held-out words only, so that a word memorised in training is of no use there.
Regular forms are made by rule; the others are spelled out: ``noun/plural``, ``verb/past/participle``.
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

SPLITS: Final = ("train", "dev")

Noun = tuple[str, str]
"""Singular and plural: indexed by number, as everything that agrees is."""


class Verb(NamedTuple):
    """The five forms of a verb."""

    base: str
    third: str
    past: str
    participle: str
    gerund: str

    @property
    def present(self) -> tuple[str, str]:
        """The present tense, indexed by the number of its subject."""
        return self.third, self.base


def _with_s(word: str) -> str:
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    return re.sub(r"(?<![aeiou])y$", "ie", word) + "s"


def _stem(base: str) -> str:
    """What -ed and -ing attach to: the last consonant of a short syllable is doubled (plan, planned)."""
    return base + base[-1] if re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", base) else base


def _noun(spelling: str) -> Noun:
    singular, *plural = spelling.split("/")
    return singular, plural[0] if plural else _with_s(singular)


def _verb(spelling: str) -> Verb:
    base, *irregular = spelling.split("/")
    past = irregular[0] if irregular else re.sub(r"(?<![aeiou])y$", "i", _stem(base)).removesuffix("e") + "ed"
    gerund = (base if base.endswith("ee") else _stem(base).removesuffix("e")) + "ing"
    return Verb(base, _with_s(base), past, irregular[-1] if irregular else past, gerund)


# Each class: its training words, then its held-out words.

_NOUNS = {
    "person": (
        "teacher doctor student farmer lawyer pilot singer artist writer driver baker manager neighbor visitor "
        "soldier dancer painter scientist journalist tourist child/children guard hunter dentist surgeon",
        "nurse judge sailor author senator poet plumber gardener banker clerk editor thief/thieves architect",
    ),
    "woman": (
        "woman/women girl queen mother sister daughter aunt princess actress waitress",
        "niece duchess lady grandmother bride",
    ),
    "man": (
        "man/men boy king father brother son uncle prince actor waiter",
        "nephew duke gentleman/gentlemen grandfather groom",
    ),
    "thing": (
        "lamp guitar car painting clock book chair table bicycle camera mirror carpet necklace piano hat coat "
        "vase basket sofa computer bottle shelf/shelves",
        "violin watch ring jacket statue kettle telescope drum mug knife/knives blanket",
    ),
    "place": (
        "garden museum kitchen library office station park market hotel church",
        "theater hospital airport school bakery gallery village",
    ),
}

_VERBS = {
    # People do it alone; never with an object.
    "act": (
        "laugh smile sleep/slept sneeze cough yawn shiver snore blush kneel/knelt",
        "giggle weep/wept frown grin hesitate tremble faint",
    ),
    # Things undergo it by themselves; nobody does it to them.
    "happen": ("disappear fall/fell/fallen arrive", "vanish appear"),
    # People do it to things; never without an object.
    "handle": (
        "find/found repair inherit notice fix borrow grab buy/bought collect",
        "locate inspect discover obtain examine mend acquire purchase",
    ),
    # People do it to people or to themselves; never without an object.
    "treat": (
        "admire praise blame comfort honor describe injure embarrass",
        "respect despise protect amuse distrust console",
    ),
    # Somebody does something to somebody, in either order.
    "transfer": ("give/gave/given send/sent show/showed/shown lend/lent sell/sold", "offer hand mail loan"),
    # What is said, known or asked: a statement, either, a question.
    "claim": ("claim believe think/thought hope", "assert assume conclude suspect"),
    "know": ("know/knew/known remember hear/heard learn guess", "discover recall realize reveal"),
    "report": ("say/said hear/heard report", "reveal predict announce"),
    "ask": ("ask discuss debate", "investigate inquire explore"),
}

_WORDS = {
    "trait": (
        "famous careful patient cautious helpful popular modest curious generous skillful",
        "cheerful polite nervous talented ambitious diligent",
    ),
    "quality": (
        "old new small large expensive cheap broken beautiful heavy dirty",
        "tiny strange dusty elegant rusty modern ancient",
    ),
    # Verb/object whose receiver never comes with "to" (forgave the boy the mistake).
    "forgave": (
        "forgave/the_mistake forgave/the_delay spared/the_details saved/the_trouble bet/ten_dollars",
        "envied/the_success fined/fifty_dollars tipped/twenty_dollars begrudged/the_fame",
    ),
    # Verb/object whose receiver always comes with "to" (explained the plan to the boy).
    "explained": (
        "explained/the_plan described/the_accident mentioned/the_problem reported/the_crime admitted/the_truth",
        "revealed/the_secret announced/the_decision confessed/the_lie demonstrated/the_method",
    ),
}

T = TypeVar("T")


def _classes(texts: dict[str, tuple[str, str]], read: Callable[[str], T]) -> dict[str, dict[str, list[T]]]:
    return {
        kind: {split: [read(word) for word in text.split()] for split, text in zip(SPLITS, halves, strict=True)}
        for kind, halves in texts.items()
    }


NOUNS: Final = _classes(_NOUNS, _noun)
VERBS: Final = _classes(_VERBS, _verb)
WORDS: Final = _classes(_WORDS, lambda word: word.replace("_", " "))
