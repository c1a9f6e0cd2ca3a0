"""Labelled text: what is written comes back, and every bad row is named by its line."""

import csv
import gzip
import json
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, RobertaConfig, T5Config

from scala.labelled_text import BadRows, load_labelled_text, read_rows, refuse_too_long, tokenized

characters = st.characters(exclude_categories=["Cs"])
texts = st.text(characters, min_size=1).filter(str.strip)
quoted_texts = st.text(st.just('"') | st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n"), min_size=1).filter(
    str.strip
)
words = st.sampled_from(["good", "bad", "so, so", 'a "b"'])


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def reasons(error: pytest.ExceptionInfo[BadRows]) -> dict[int, str]:
    return {row.line: row.reason for row in error.value.rows}


def columns(dataset) -> dict[str, list]:
    return {name: list(dataset[name]) for name in dataset.column_names}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("labelled")


class TestRoundTrip:
    @given(rows=st.lists(st.tuples(texts, texts, words), min_size=1))
    def test_csv(self, folder, rows):
        with (folder / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("a", "b", "label"), *rows])
        read, bad = read_rows(folder / "pairs.csv", text="a", text_pair="b")
        assert bad == []
        assert [row[1:] for row in read] == rows

    @given(rows=st.lists(st.tuples(quoted_texts, words), min_size=1))
    def test_tsv_with_literal_quotes(self, folder, rows):
        content = "".join(f"{text}\t{label}\n" for text, label in [("text", "label"), *rows])
        read, bad = read_rows(write(folder / "literal.tsv", content), text="text")
        assert bad == []
        assert [(row.sentence1, row.label) for row in read] == rows

    @given(rows=st.lists(st.tuples(texts, words), min_size=1), ascii_only=st.booleans())
    def test_jsonl(self, folder, rows, ascii_only):
        lines = [json.dumps({"text": text, "label": label}, ensure_ascii=ascii_only) for text, label in rows]
        read, bad = read_rows(write(folder / "objects.jsonl", "\n".join(lines)), text="text")
        assert bad == []
        assert [(row.sentence1, row.label) for row in read] == rows
        assert [row.line for row in read] == list(range(1, len(rows) + 1))


class TestDataset:
    def test_pairs_have_two_sentences_class_ids_and_row_numbers(self, tmp_path):
        path = write(tmp_path / "a.csv", "id,left,right,verdict\n7,A,B,yes\n8,C,D,no\n9,E,F,yes\n")
        data = load_labelled_text(path, text="left", text_pair="right", label="verdict")
        assert data.labels == ["no", "yes"]
        assert data.dataset.features["label"].names == ["no", "yes"]
        assert columns(data.dataset) == {
            "sentence1": ["A", "C", "E"],
            "sentence2": ["B", "D", "F"],
            "label": [1, 0, 1],
            "idx": [0, 1, 2],
        }

    def test_single_sentences_have_no_second_column(self, tmp_path):
        path = write(tmp_path / "a.csv", "text,label\nA,1\nB,0\n")
        assert load_labelled_text(path).dataset.column_names == ["sentence1", "label", "idx"]

    def test_a_byte_order_mark_and_windows_line_ends_are_no_content(self, tmp_path):
        content = b"\xef\xbb\xbftext\tlabel\r\nA\tx\r\n\r\nB\ty\r\n"
        data = load_labelled_text(write(tmp_path / "a.TSV", content))
        assert columns(data.dataset) == {"sentence1": ["A", "B"], "label": [0, 1], "idx": [0, 1]}

    def test_whole_numbers_are_sorted_by_value(self, tmp_path):
        path = write(tmp_path / "a.csv", "text,label\nA,10\nB,9\nC,-1\nD,2\n")
        assert load_labelled_text(path).labels == ["-1", "2", "9", "10"]

    @given(labels=st.permutations(["10", "2", "+1", "1", "01", "001", "0001"]))
    def test_class_names_do_not_depend_on_the_order_of_rows(self, folder, labels):
        path = write(folder / "order.csv", "text,label\n" + "".join(f"A,{label}\n" for label in labels))
        assert load_labelled_text(path).labels == ["+1", "0001", "001", "01", "1", "2", "10"]

    def test_given_labels_fix_the_ids(self, tmp_path):
        path = write(tmp_path / "a.csv", "text,label\nA,x\nB,x\n")
        data = load_labelled_text(path, labels=["z", "y", "x"])
        assert data.labels == ["z", "y", "x"]
        assert list(data.dataset["label"]) == [2, 2]

    def test_json_numbers_and_booleans_are_labels(self, tmp_path):
        path = write(tmp_path / "a.jsonl", '{"text": "A", "label": true}\n\n{"text": "B", "label": false}\n')
        assert load_labelled_text(path).labels == ["false", "true"]
        path = write(tmp_path / "b.jsonl", '{"text": "A", "label": 2.5}\n{"text": "B", "label": 1}\n')
        assert list(load_labelled_text(path).dataset["label"]) == [2.5, 1.0]

    def test_a_header_can_be_given(self, tmp_path):
        rows, bad = read_rows(write(tmp_path / "a.tsv", "x\tA\ny\tB\n"), text="t", label="l", header=["l", "t"])
        assert [row[1:] for row in rows] == [("A", None, "x"), ("B", None, "y")]
        assert [row.line for row in rows] == [1, 2]
        assert bad == []


class TestTask:
    @pytest.mark.parametrize(
        ("labels", "classes"),
        [
            (["b", "a"], ["a", "b"]),
            (["nan", "inf"], ["inf", "nan"]),
            (["1", "0", "1"], ["0", "1"]),
            ([str(n) for n in range(20)], [str(n) for n in range(20)]),
            (["0.5", "2", "-1e-1"], None),
            ([str(n / 4) for n in range(100)], None),
        ],
    )
    def test_is_told_from_the_labels(self, tmp_path, labels, classes):
        path = write(tmp_path / "a.csv", "text,label\n" + "".join(f"A,{label}\n" for label in labels))
        assert load_labelled_text(path).labels == classes

    @pytest.mark.parametrize(
        ("labels", "why"),
        [
            ([str(n) for n in range(21)], "21 different whole numbers"),
            (["1.0", "0.0"], "2 different whole numbers"),
            (["1", "2.5", "good"], r"a\.csv:4 has the label 'good'"),
            (["3.14", "3,14"], r"a\.csv:3 has the label '3,14': if it is a number, write it with a decimal point"),
            (["3,14", "2,72"], r"a\.csv:2 has the label '3,14'"),
            (["1,000", "1.000,5", "12"], r"a\.csv:2 has the label '1,000'"),
        ],
    )
    def test_is_asked_for_when_ambiguous(self, tmp_path, labels, why):
        path = write(tmp_path / "a.csv", "text,label\n" + "".join(f'A,"{label}"\n' for label in labels))
        with pytest.raises(ValueError, match=f"{why}.*pass task="):
            load_labelled_text(path)
        assert load_labelled_text(path, task="classification").labels is not None

    def test_given_wins_over_the_labels(self, tmp_path):
        path = write(tmp_path / "a.csv", "text,label\nA,1\nB,0\n")
        data = load_labelled_text(path, task="regression")
        assert data.labels is None
        assert data.dataset.features["label"].dtype == "float32"
        assert list(data.dataset["label"]) == [1.0, 0.0]

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            ({"task": "ranking"}, "'ranking'"),
            ({"task": "regression", "labels": ["1"]}, "a regression has none"),
            ({"labels": ["x", "y", "x"]}, "twice"),
            ({"labels": ["x"]}, "needs two labels"),
            ({}, "needs two labels or more, not only: x"),
            ({"text_pair": "text"}, "different columns"),
        ],
    )
    def test_impossible_requests(self, tmp_path, arguments, why):
        with pytest.raises(ValueError, match=why):
            load_labelled_text(write(tmp_path / "a.csv", "text,label\nA,x\n"), **arguments)


class TestBadRows:
    def test_csv_rows_are_named_by_the_line_they_start_on(self, tmp_path):
        content = 'text,label\n"two\nlines",x\nA\nB,x,y\n" ",x\nC, \nD,x\n'
        with pytest.raises(BadRows) as error:
            load_labelled_text(write(tmp_path / "a.csv", content), labels=["x", "y"])
        assert reasons(error) == {
            4: "2 fields expected, 1 found",
            5: "2 fields expected, 3 found",
            6: "'text' is empty",
            7: "'label' is empty",
        }
        assert f"{tmp_path}/a.csv:4: 2 fields" in str(error.value)

    def test_bad_fields_and_bad_labels_come_in_one_error_in_order(self, tmp_path):
        path = write(tmp_path / "dev.csv", "text,label\nA,x\nB,w\n,x\nC,v\n")
        with pytest.raises(BadRows, match="3 bad rows in") as error:
            load_labelled_text(path, labels=["x", "y"])
        assert reasons(error) == {
            3: "unknown label 'w'; the labels are: x, y",
            4: "'text' is empty",
            5: "unknown label 'v'; the labels are: x, y",
        }
        assert list(reasons(error)) == [3, 4, 5]

    def test_ten_are_shown_and_all_are_counted(self, tmp_path):
        path = write(tmp_path / "a.csv", "text,label\nA,x\n" + ",x\n" * 12)
        with pytest.raises(BadRows, match=r"12 bad rows in .*, the first 10") as error:
            load_labelled_text(path)
        assert len(error.value.rows) == 12
        assert str(error.value).count("is empty") == 10
        assert ":12:" in str(error.value)
        assert ":13:" not in str(error.value)

    @pytest.mark.parametrize("label", ["nan", "inf", "1e999", "1e39", "4,2", "1_000", "x", "٣"])
    def test_scores_must_be_finite_numbers(self, tmp_path, label):
        with pytest.raises(BadRows) as error:
            load_labelled_text(write(tmp_path / "a.tsv", f"text\tlabel\nA\t1\nB\t{label}\n"), task="regression")
        hint = "; numbers have a decimal point and no other marks" if label == "4,2" else ""
        assert reasons(error) == {3: f"label {label!r} is not a finite number{hint}"}

    def test_json_lines(self, tmp_path):
        lines = [
            '{"text": "A", "label": "x"}',
            '{"text": "A", "label": ',
            '["A", "x"]',
            '{"text": "A"}',
            '{"text": "A", "label": null}',
            '{"text": 5, "label": "x"}',
            r'{"text": "\ud800", "label": "x"}',
            "[" * 100_000,
            r'{"text": "A", "label": "\udfff"}',
            '{"text": "A", "label": NaN}',
            '{"text": "A", "label": -Infinity}',
            '{"text": "A", "label": "x", "label": "y"}',
            '{"text": 2.50, "label": "x"}',
            '{"text": "A", "label": "x", "other": NaN, "twice": 1, "twice": 2}',
        ]
        with pytest.raises(BadRows) as error:
            load_labelled_text(write(tmp_path / "a.jsonl", "\n".join(lines)))
        found = reasons(error)
        assert found[2].startswith("not valid JSON: ")
        assert found[3] == "not a JSON object"
        assert found[4] == "no field 'label'; the fields are: text"
        assert found[5] == "'label' is None, not a label"
        assert found[6] == "'text' is 5, not a text"
        assert "surrogate" in found[7]
        assert found[8].startswith("not valid JSON: ")
        assert "surrogate" in found[9]
        assert found[10] == "'label' is NaN, not a label"
        assert found[11] == "'label' is -Infinity, not a label"
        assert found[12] == "twice the field 'label'"
        assert found[13] == "'text' is 2.50, not a text"
        assert not {1, 14} & set(found)  # what is not read may be as it will

    @pytest.mark.parametrize(
        ("name", "first", "row"),
        [
            ("a.csv", "text,label", "café,x"),
            ("a.tsv", "text\tlabel", "café\tx"),
            ("a.jsonl", '{"text": "the", "label": "y"}', '{"text": "café", "label": "x"}'),
        ],
    )
    def test_bytes_that_are_not_utf8_are_named_by_line(self, tmp_path, name, first, row):
        content = b"\n".join([first.encode(), row.encode(), row.encode("latin-1"), row.encode()])
        with pytest.raises(BadRows) as error:
            load_labelled_text(write(tmp_path / name, content))
        assert reasons(error) == {3: "not UTF-8"}

    def test_an_open_quote_is_named_where_it_opens(self, tmp_path):
        with pytest.raises(BadRows) as error:
            load_labelled_text(write(tmp_path / "a.csv", 'text,label\nA,x\n"B,y\nC,x\n'))
        assert list(reasons(error)) == [3]
        assert "double quote left open" in reasons(error)[3]

    def test_text_behind_a_closing_quote_is_named_and_reading_goes_on(self, tmp_path):
        content = 'text,label\n"B" b,y\nC,x\n,x\n'
        with pytest.raises(BadRows) as error:
            load_labelled_text(write(tmp_path / "a.csv", content))
        assert list(reasons(error)) == [2, 4]

    def test_a_quote_in_a_tsv_swallows_nothing(self, tmp_path):
        path = write(tmp_path / "a.tsv", 'text\tlabel\n"A\tx\nB"\ty\n')
        assert list(load_labelled_text(path).dataset["sentence1"]) == ['"A', 'B"']

    def test_a_field_too_long_for_csv_is_named(self, tmp_path):
        with pytest.raises(BadRows) as error:
            load_labelled_text(write(tmp_path / "a.tsv", f"text\tlabel\nA\tx\n{'B' * 200_000}\ty\n"))
        assert reasons(error) == {3: "field larger than field limit (131072)"}


class TestBadFiles:
    @pytest.mark.parametrize(
        ("name", "content", "why"),
        [
            ("a.csv", "", "a.csv:1: the file has no rows"),
            ("a.csv", "text,label\n", "a.csv:1: the file has no rows"),
            ("a.csv", "text,label\n,x\n", "1 bad row in .*a.csv:\n.*a.csv:2: 'text' is empty"),
            ("a.jsonl", "\n", "a.jsonl:1: the file has no rows"),
            ("a.csv", "words,label\nA,x\n", "a.csv:1: no column 'text'; the columns are: words, label"),
            ("a.csv", "text,text,label\nA,B,x\n", "a.csv:1: twice the column 'text'"),
            ("a.csv", b"\xff\xfet\x00e\x00", "a.csv:1: not UTF-8"),
            ("a.txt", "text,label\nA,x\n", r"the suffix '\.txt' is not known; name the file .csv"),
            ("a.txt.gz", gzip.compress(b"text,label\nA,x\n"), r"the suffix '\.gz' is not known"),
            ("a.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS.*git lfs pull"),
            ("a.csv.gz", gzip.compress(b"text,label\nA,x\n" * 99)[:-9], "a.csv.gz is not a whole gzip file"),
            ("a.csv.gz", b"text,label\nA,x\n", "a.csv.gz is not a whole gzip file"),
            ("a.jsonl.gz", gzip.compress(b"A" * 9)[:12] + b"\xff" * 12, "a.jsonl.gz is not a whole gzip file"),
            ("a.parquet", b"PAR1 and no more", "a.parquet is no whole parquet file"),
            ("a.json", "[]", "a.json:1: the file has no rows"),
        ],
    )
    def test_get_a_clear_error(self, tmp_path, name, content, why):
        with pytest.raises((ValueError, OSError), match=why):
            load_labelled_text(write(tmp_path / name, content))

    def test_a_folder_that_is_no_data_set_is_named(self, tmp_path):
        (tmp_path / "dataset_info.json").write_text("{}")
        with pytest.raises(OSError, match=r"is no data set that datasets\.save_to_disk wrote"):
            load_labelled_text(tmp_path)

    def test_a_missing_file_is_not_found(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            load_labelled_text(tmp_path / "none.csv")


@pytest.mark.parametrize("pair", [False, True])
def test_tokenized_keeps_label_and_idx_and_cuts_without_padding(encoder, pair):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder)
    columns = {"sentence1": ["abc", "a b"], "label": [1, 0], "idx": [0, 1]}
    if pair:
        columns["sentence2"] = ["cab", "abcdefgh"]
    data = tokenized(Dataset.from_dict(columns), tokenizer, max_length=8)
    assert not {"sentence1", "sentence2"} & set(data.column_names)
    assert (data["label"][:], data["idx"][:]) == ([1, 0], [0, 1])
    for i in (0, 1):
        text = [columns["sentence1"][i], *([columns["sentence2"][i]] if pair else [])]
        assert data["input_ids"][i] == tokenizer(*text, truncation=True, max_length=8)["input_ids"]
    assert [len(ids) for ids in data["input_ids"]] == ([8, 8] if pair else [5, 4])


@pytest.mark.parametrize(
    ("settings", "longest", "positions"),
    [
        (BertConfig(max_position_embeddings=8), 9, 8),
        (RobertaConfig(max_position_embeddings=10, pad_token_id=1), 9, 8),
    ],
)
def test_inputs_longer_than_the_encoder_has_positions_are_refused(settings, longest, positions):
    data = Dataset.from_dict({"input_ids": [[1] * positions, [1] * 3]})
    refuse_too_long(data, settings)
    data = Dataset.from_dict({"input_ids": [[1] * positions, [1] * longest]})
    with pytest.raises(ValueError, match=f"has {longest} tokens and the encoder {positions} positions: set max_length"):
        refuse_too_long(data, settings)


def test_an_encoder_without_positions_has_no_limit():
    refuse_too_long(Dataset.from_dict({"input_ids": [[1] * 5000]}), T5Config())
