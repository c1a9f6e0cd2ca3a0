"""The acceptability task: its labels, its balance, its held-out words, its determinism, and that words do not tell."""

import random
import re
import subprocess
import sys
from collections import Counter
from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from paper_repro.data import acceptability
from paper_repro.data.acceptability import PAIRS_EACH, PHENOMENA, SPLITS, generate, minimal_pair, sentence
from paper_repro.data.acceptability_lexicon import NOUNS, VERBS, WORDS, _noun, _verb

names, splits, seeds = st.sampled_from(list(PHENOMENA)), st.sampled_from(SPLITS), st.integers(0, 2**32)


@pytest.fixture(scope="module")
def task():
    return generate()


def words(text):
    return re.findall(r"[\w']+", text.lower())


LEMMAS = {"an": "a"}
LEMMAS |= {noun[1]: noun[0] for halves in NOUNS.values() for half in halves.values() for noun in half}
LEMMAS |= {verb.third: verb.base for halves in VERBS.values() for half in halves.values() for verb in half}


def draw_pair(name, split, seed):
    return minimal_pair(name, random.Random(seed), split)


# Read and judged by eye: a phenomenon whose pieces are in the wrong order inverts its labels.
JUDGED = {
    "agreement_across_phrase": (
        "The judge near the plumbers faints near the school.",
        "The judges near the plumber faints near the school.",
    ),
    "reflexive_across_phrase": (
        "The grooms who protected the grandfather distrusted themselves.",
        "The grandfather who protected the grooms distrusted themselves.",
    ),
    "transitivity": (
        "The judge giggled after the plumber examined the modern statue.",
        "The judge examined after the plumber giggled the modern statue.",
    ),
    "causatives": (
        "When the nurse inspected the telescope, the ring vanished.",
        "When the nurse vanished the telescope, the ring inspected.",
    ),
    "animate_subjects": (
        "The gardener located the statue.",
        "The statue located the gardener.",
    ),
    "receivers": (
        "The nurse envied the author the success and announced the decision to the poet.",
        "The nurse announced the author the success and envied the decision to the poet.",
    ),
    "filler_and_gap": (
        "The poet revealed what the senator mended and that the thief located the strange violin.",
        "The poet revealed that the senator mended and what the thief located the strange violin.",
    ),
    "adjunct_island": (
        "What did the architect examine because the plumber located the watch?",
        "What did the architect examine the watch because the plumber located?",
    ),
    "coordinate_structure": (
        "What did the sailor inspect and loan before the author obtained the ring?",
        "What did the sailor inspect the ring and loan before the author obtained?",
    ),
    "wh_island": (
        "What had the poet who had investigated whether the nurse trembled predicted that the sailor inspected?",
        "What had the poet who had predicted that the nurse trembled investigated whether the sailor inspected?",
    ),
    "question_inversion": (
        "The clerk reveals what the editor will inspect.",
        "The clerk reveals what will the editor inspect.",
    ),
    "polarity_items": (
        "No sailor that the banker protected has ever grinned.",
        "The sailor that no banker protected has ever grinned.",
    ),
    "tense_and_time": (
        "Next month the author will obtain the dusty statue, and two days ago the senator examined the mug.",
        "Two days ago the author will obtain the dusty statue, and next month the senator examined the mug.",
    ),
    "agreement": (
        "The editors giggle outside the village.",
        "The editors giggles outside the village.",
    ),
    "verb_form": (
        "The sailor is inspecting the statue.",
        "The sailor is inspect the statue.",
    ),
    "missing_object": (
        "The nurse near the gardener discovered the ancient telescope in the bakery.",
        "The nurse near the gardener discovered in the bakery.",
    ),
    "spare_object": (
        "The architect hesitated in the gallery.",
        "The architect hesitated the strange blanket in the gallery.",
    ),
    "determiner": (
        "The plumber obtained several rings in the airport.",
        "The plumber obtained several ring in the airport.",
    ),
    "reflexive": (
        "The nephews consoled themselves in the village.",
        "The duke consoled themselves in the village.",
    ),
    "pronoun_case": (
        "The author distrusted them.",
        "The author distrusted they.",
    ),
    "adjective_order": (
        "The gardener acquired the modern ring outside the gallery.",
        "The gardener acquired the ring modern outside the gallery.",
    ),
    "question_gap": (
        "What did the clerk obtain last month?",
        "What did the clerk obtain the rusty knife last month?",
    ),
    "ever": (
        "No gardener has ever acquired the violin.",
        "This gardener has ever acquired the violin.",
    ),
    "there_is": (
        "There is a mug behind the theater.",
        "There is each mug behind the theater.",
    ),
    "comparison": (
        "The nurse was as polite as the author.",
        "The nurse was as polite than the author.",
    ),
}


@pytest.mark.parametrize("name", PHENOMENA)
def test_labels_are_those_of_a_reader(name):
    assert draw_pair(name, "dev", f"judged {name}") == JUDGED[name]


LOCAL = list(PHENOMENA)[list(PHENOMENA).index("agreement") :]
"""The phenomena of one word or phrase out of place; of the others two pieces are exchanged."""


@given(names.filter(lambda name: name not in LOCAL), splits, seeds)
def test_exchanged_both_sentences_of_a_pair_have_the_same_words_up_to_number(name, split, seed):
    good, bad = (Counter(LEMMAS.get(word, word) for word in words(text)) for text in draw_pair(name, split, seed))
    assert good == bad


@given(names, splits, seeds)
def test_a_pair_is_two_sentences_in_plain_spelling(name, split, seed):
    good, bad = draw_pair(name, split, seed)
    assert good != bad
    for text in good, bad:
        assert 4 <= len(words(text)) <= 20, text
        assert re.fullmatch(r"[A-Z][a-z]*(,? [a-z]+)*[.?]", text), text
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", text), text


@given(st.sampled_from(LOCAL), splits, seeds)
def test_out_of_place_the_sentences_differ_in_one_place_in_few_words(name, split, seed):
    good, bad = ([LEMMAS.get(word, word) for word in words(text)] for text in draw_pair(name, split, seed))
    changes = [op for op in SequenceMatcher(None, good, bad, autojunk=False).get_opcodes() if op[0] != "equal"]
    assert len(changes) <= 2
    assert sum(max(i2 - i1, j2 - j1) for _, i1, i2, j1, j2 in changes) <= 3


@given(splits, seeds)
def test_determiners_agree_in_the_acceptable_sentence_and_in_no_other(split, seed):
    number = dict.fromkeys(("this", "that", "every", "one"), 0) | dict.fromkeys(("these", "those", "several", "many"), 1)
    things = {form: n for noun in NOUNS["thing"][split] for n, form in enumerate(noun)}
    for text, agrees in zip(draw_pair("determiner", split, seed), (True, False), strict=True):
        (determiner,) = (number[word] for word in words(text) if word in number)
        (noun,) = (things[word] for word in words(text) if word in things)
        assert (determiner == noun) == agrees, text


@given(names, splits, seeds)
def test_no_open_class_word_stands_twice_in_a_sentence(name, split, seed):
    nouns = {form for halves in NOUNS.values() for half in halves.values() for noun in half for form in noun}
    for text in draw_pair(name, split, seed):
        assert max(Counter(LEMMAS.get(w, w) for w in words(text) if w in nouns).values()) == 1, text


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", PHENOMENA)
def test_every_phenomenon_gives_as_many_pairs_as_promised_and_no_sentence_both_labels(name, split):
    rng = random.Random(0)
    good, bad = zip(*(minimal_pair(name, rng, split) for _ in range(2 * PAIRS_EACH)), strict=True)
    assert min(len(set(good)), len(set(bad))) >= PAIRS_EACH
    assert not set(good) & set(bad)


def test_default_sizes_and_balance(task):
    assert {split: len(judgements) for split, judgements in task.items()} == {"train": 4000, "dev": 1000}
    for judgements in task.values():
        assert sum(j.label for j in judgements) == len(judgements) / 2
        per_phenomenon = Counter(j.phenomenon for j in judgements)
        assert set(per_phenomenon) == set(PHENOMENA)
        assert max(per_phenomenon.values()) - min(per_phenomenon.values()) <= 2


def test_no_sentence_twice_anywhere(task):
    sentences = [j.sentence for judgements in task.values() for j in judgements]
    assert len(set(sentences)) == len(sentences)


def test_members_of_a_pair_share_split_and_phenomenon_and_are_apart(task):
    for judgements in task.values():
        pairs = {}
        for position, judgement in enumerate(judgements):
            pairs.setdefault(judgement.pair, []).append((position, judgement))
        assert sorted(pairs) == list(range(len(judgements) // 2))
        assert all({j.label for _, j in members} == {0, 1} for members in pairs.values())
        assert all(len({j.phenomenon for _, j in members}) == 1 for members in pairs.values())
        apart = [abs(members[0][0] - members[1][0]) for members in pairs.values()]
        assert sum(apart) / len(apart) > len(judgements) / 5
        good_first = sum(members[0][1].label for members in pairs.values())
        assert abs(good_first / len(pairs) - 0.5) < 0.1


def test_dev_has_no_noun_verb_or_adjective_of_train(task):
    def forms(split):
        entries = [e for lexicon in (NOUNS, VERBS, WORDS) for halves in lexicon.values() for e in halves[split]]
        return {w for e in entries for w in words(e if isinstance(e, str) else " ".join(e))} - FUNCTION_WORDS

    in_text = {split: {w for j in task[split] for w in words(j.sentence)} for split in SPLITS}
    assert not forms("train") & forms("dev")
    assert not in_text["dev"] & forms("train")
    assert not in_text["train"] & forms("dev")


FUNCTION_WORDS = {"the", "ten", "twenty", "fifty", "dollars"}


@pytest.mark.parametrize("ngrams", [(1, 1), (1, 3)])
def test_words_alone_do_not_tell(task, ngrams):
    vectorizer = CountVectorizer(ngram_range=ngrams, token_pattern=r"[\w']+|[,.?]")
    features = {"train": vectorizer.fit_transform(j.sentence for j in task["train"])}
    features["dev"] = vectorizer.transform(j.sentence for j in task["dev"])
    labels = {split: [j.label for j in task[split]] for split in SPLITS}
    classifier = LogisticRegression(C=0.1, max_iter=1000).fit(features["train"], labels["train"])
    assert classifier.score(features["dev"], labels["dev"]) < 0.6


def test_same_seed_same_sentences_whatever_the_hash_seed(task):
    show = "from paper_repro.data.acceptability import generate; print(generate(3, 200, 100))"
    environments = [{"PYTHONHASHSEED": hash_seed} for hash_seed in ("0", "1")]
    shown = [
        subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True, env=e, cwd=ROOT).stdout
        for e in environments
    ]
    assert shown[0] == shown[1] == f"{generate(3, 200, 100)}\n"
    assert generate() == task


ROOT = acceptability.__file__.rsplit("paper_repro", 1)[0]


def test_another_seed_gives_other_sentences(task):
    other = {j.sentence for j in generate(seed=1)["train"]}
    assert len(other & {j.sentence for j in task["train"]}) < 400


def test_one_split_does_not_depend_on_the_size_of_the_other(task):
    assert generate(train=100)["dev"] == task["dev"]
    assert generate(dev=100)["train"] == task["train"]


def test_the_smallest_and_an_uneven_size():
    assert len(generate(train=2, dev=2)["dev"]) == 2
    assert len(generate(train=2 * len(PHENOMENA) + 2, dev=2)["train"]) == 2 * len(PHENOMENA) + 2


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("size", [-2, 0, 1, 7, 2 * PAIRS_EACH * len(PHENOMENA) + 2])
def test_impossible_sizes_are_refused(split, size):
    most = 2 * PAIRS_EACH * len(PHENOMENA)
    with pytest.raises(ValueError, match=rf"{split}={size}: .* even number .* between 2 and {most}"):
        generate(**{"train": 2, "dev": 2, split: size})


@pytest.mark.parametrize(
    ("spelling", "plural"),
    [("nurse", "nurses"), ("lady", "ladies"), ("boy", "boys"), ("watch", "watches"), ("knife/knives", "knives")],
)
def test_plurals(spelling, plural):
    assert _noun(spelling) == (spelling.split("/")[0], plural)


@pytest.mark.parametrize(
    ("spelling", "forms"),
    [
        ("mend", "mend mends mended mended mending"),
        ("blame", "blame blames blamed blamed blaming"),
        ("carry", "carry carries carried carried carrying"),
        ("enjoy", "enjoy enjoys enjoyed enjoyed enjoying"),
        ("grab", "grab grabs grabbed grabbed grabbing"),
        ("agree", "agree agrees agreed agreed agreeing"),
        ("fix", "fix fixes fixed fixed fixing"),
        ("show/showed/shown", "show shows showed shown showing"),
        ("find/found", "find finds found found finding"),
    ],
)
def test_verb_forms(spelling, forms):
    assert _verb(spelling) == tuple(forms.split())


def test_spelling_of_a_sentence():
    assert sentence("the  nurse , I think, had a old lamp ") == "The nurse, I think, had an old lamp."
    assert sentence("did a nurse laugh ?") == "Did a nurse laugh?"


def test_command_prints_pairs_and_writes_what_generate_gives(tmp_path, capsys):
    acceptability.main(["--seed", "5", "--show", "2", "--train", "100", "--dev", "100", "--out", str(tmp_path / "new")])
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if not line.startswith(" ")] == list(PHENOMENA)
    assert len(printed) == 5 * len(PHENOMENA)
    for split, judgements in generate(5, 100, 100).items():
        rows = (tmp_path / "new" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
        assert rows[0].split("\t") == ["sentence", "label", "phenomenon", "pair"]
        expected = [[j.sentence, str(j.label), j.phenomenon, str(j.pair)] for j in judgements]
        assert [row.split("\t") for row in rows[1:]] == expected


def test_command_refuses_an_odd_size(capsys):
    assert acceptability.main(["--train", "3"]) == 1
    assert "train=3" in capsys.readouterr().err
