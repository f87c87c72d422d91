"""Tables of captions, as others publish them, joined to the pairs that they describe."""

import gzip
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest

from gestalt.data_modules.corpora.caption_tables import CaptionedPairs
from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.corpora.stores import Store
from gestalt.data_modules.image_text import source_notes
from gestalt.data_modules.keys import Captions, Data, check_options
from gestalt.data_modules.pairs import StoredPair
from gestalt.data_modules.sources import open_data
from gestalt.data_modules.sources.tars import TarStore
from gestalt.data_modules.tools.packing import pack
from tests.data_modules.server import serving
from tests.data_modules.tar_files import jpeg, write_shards

PAIRS = range(60)
opened = partial(open_data, size=8, seed=0)
TEXTS = {1: "nul\0 inside", 2: "x" * 10_001, 3: None, 4: 'a "quoted",\nlong caption\n'}


@pytest.fixture
def shards(tmp_path):
    return write_shards(tmp_path / "tars", [25, 35])


@pytest.mark.parametrize(
    ("name", "by", "named", "column"),
    [
        ("cc12m_3long_3short_1raw_captions_url.csv", "url", "Image Path", "longIB_captions"),
        ("captions.tsv", "key", "key", "caption"),
        ("train.jsonl.gz", "key", "key", "caption_llava_short"),
        ("vlm_captions_cc12m_00.parquet", "uid", "uid", "vlm_caption"),
    ],
)
def test_each_pair_has_the_text_of_its_row(
    tmp_path, shards, name, by, named, column, capsys, monkeypatch
):
    """A tenth of the pairs has none; one has its row twice, another a later one of another text.
    Rows are in several chunks, and texts are gathered and written in several.
    """
    monkeypatch.setattr("gestalt.data_modules.corpora.caption_files.ROWS", 3)
    monkeypatch.setattr("gestalt.data_modules.corpora.caption_files.STORED", 7)
    monkeypatch.setattr("gestalt.data_modules.corpora.caption_tables.GATHERED", 16)
    monkeypatch.setattr("gestalt.data_modules.corpora.caption_tables.CHUNK", 8)
    numbers = [number for number in range(70) if number % 10]
    form = {"url": "https://x.org/{}.jpg", "key": "{:05d}", "uid": "{:032x}"}[by]
    texts = [TEXTS.get(number, f"new {number}") for number in numbers]
    table = pd.DataFrame({named: map(form.format, numbers), column: texts})
    table = table.sample(frac=1, random_state=0)
    table = pd.concat([table, table[:1], table[-1:].assign(**{column: "other"})])
    table = pd.concat([table, pd.DataFrame({column: ["of no pair"] * 2})])
    path = str(tmp_path / name)
    if ".json" in name:
        table.to_json(path, orient="records", lines=True)
    elif "parquet" in name:
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if "tsv" in name else ",")
    weights = {column: 2, "own": 0}
    captions = Captions(path, {by: named})
    data = Data(root=str(shards), cache=str(tmp_path), captions=captions, caption=weights)
    source = opened(data)
    for number in PAIRS:
        text = TEXTS.get(number, f"new {number}") if number % 10 else None
        read = source.read(number).captions
        assert (read["own"].decode(), read[column]) == (f"picture {number}", text)
        usable = text is not None and len(text) <= 10_000
        assert source.caption(number, 1) == (text.strip() if usable else f"picture {number}")
    facts = source.about()["captions"]
    assert [facts[key] for key in ("pairs", "with_row", "repeated_rows")] == [60, 54, 2]
    texts = [source.read(number).captions[column] for number in PAIRS]
    chunks = "".join(repr([texts[start : start + 8]]) for start in range(0, 60, 8))
    assert facts["digest"] == sha256(chunks.encode()).hexdigest()[:32]
    (lock,) = tmp_path.glob("joined/*.lock")
    lock.unlink()  # a finished join needs none, and no hash
    with monkeypatch.context() as patch:
        patch.setattr(TarStore, "join_hashes", lambda *_: pytest.fail("hashed again"))
        assert opened(data).digest() == source.digest()
    assert not lock.exists()
    assert capsys.readouterr().err.count("captions: joining") == 1
    lock.with_suffix(".arrow").unlink()
    assert opened(data).digest() == source.digest()
    with pytest.raises(ValueError, match="lose its columns and weights"):
        pack(source, tmp_path / "packed", shards=1)


def test_pairs_or_a_table_with_other_content_are_joined_again(cwd):
    Path("new.csv").write_text("url,t\na,new a\nb,new b\n")
    data = Data("parquet", root="a.parquet", captions=Captions("new.csv"), caption={"t": 1})
    for urls in ("ab", "ba"):
        pairs = pd.DataFrame({"image": [jpeg(0)] * 2, "caption": "own", "url": [*urls]})
        pairs.to_parquet("a.parquet")
        assert opened(data).caption(0, 0) == f"new {urls[0]}"
    Path("new.csv").write_text("url,t\na,new a\nb,old b\n")  # of the same size
    assert opened(data).caption(0, 0) == "old b"


class Keys(Store):
    """Pairs that have join values and nothing else."""

    def __init__(self, values):
        self._values, self.asked = values, ""

    def __len__(self):
        return len(self._values)

    def read(self, index):
        return StoredPair("", "", b"", "own")

    def digest(self):
        return ""

    def join_values(self, name):
        self.asked += name
        return iter(self._values)


def joined(root, keys):
    rule = CaptionRule(table=Captions(root), weights={"t": 1})
    return CaptionedPairs(Keys(keys), size=8, seed=0, rule=rule, cache=".")


HALVES = "0123456789abcdef", "fedcba9876543210"
WRITTEN = {  # name, content, join values of the pairs, and their captions
    "too many fields": ("a.csv", "url,t\na,one, two\nb,three\n", "ab", [None, "three"]),
    "too few fields": ("a.tsv", "url\tt\tu\na\tone\nb\ttwo\t\n", "ab", [None, "two"]),
    "0 is a key": (
        "a.jsonl",
        '{"url": 0, "t": "zero"}\n{"url": null, "t": "none"}\n{"url": "x", "t": "text"}',
        [0, "x"],
        ["zero", "text"],
    ),
    "halves exchanged": (
        "a.csv",
        f"url,t\n{HALVES[0]}{HALVES[1]},a\n{HALVES[1]}{HALVES[0]},b\n{HALVES[0] * 2},c\n",
        [HALVES[0] + HALVES[1], HALVES[1] + HALVES[0], HALVES[0] * 2],
        ["a", "b", "c"],
    ),
    "32 letters": (
        "a.csv",
        f"url,t\n-{'1' * 31},a\n{'g' * 32},b\n",
        [f"-{'1' * 31}", "g" * 32],
        ["a", "b"],
    ),
    "words for nothing": (
        "a.csv",
        "url,t\nNA,null\nnull,None\nNone,NA\nnan,\n",
        ["NA", "null", "None", "nan"],
        ["null", "None", "NA", None],
    ),
    "quote in a field": (
        "a.csv",
        'url,t\na,x,y\nb,"one, ""1"""\nc,2" or\nd,x,y\ne,2"\n"f","4\n"\n',
        "abcdef",
        [None, 'one, "1"', '2" or', None, '2"', "4\n"],
    ),
    "carriage returns": ("a.csv", "url,t\ra,one\rb,two", "ab", ["one", "two"]),
    "number after texts": (
        "a.jsonl",
        '{"url": "a", "t": "one"}\n{"url": 5, "t": "two"}',
        ["a", "5"],
        ["one", "two"],
    ),
    "dates": ("a.jsonl", '{"url": "a", "t": "2020-01-01"}', "a", ["2020-01-01"]),
    "text after nulls": (
        "a.jsonl",
        '{"url": null, "t": null}\n' * 600 + '{"url": "b", "t": "b"}',
        "b",
        ["b"],
    ),
}


@pytest.mark.parametrize(("name", "content", "keys", "captions"), WRITTEN.values(), ids=WRITTEN)
def test_keys_and_captions_are_read_as_they_are_written(cwd, name, content, keys, captions):
    Path(name).write_text(content, newline="")
    pairs = joined(name, [*keys])
    assert [pairs.read(index).captions["t"] for index in range(len(pairs))] == captions
    assert pairs.store.asked == "url"  # the values of all pairs are hashed once
    facts = pairs.about()["captions"]
    broken = len(pairs) - facts["with_row"]
    assert (facts["broken_rows"], facts["repeated_rows"]) == (broken, 0)
    notes = " ".join(source_notes(pairs.about()))
    assert (f" {broken} of its rows have another" in notes) == bool(broken)


LINES = b'{"url": "a", "t": "b"}\n' * 99
REFUSED = {  # name, content, and a part of the message
    "column twice": ("a.csv", b"url,t,t\na,b,c\n", r"a\.csv has several columns called t; rename"),
    "other column": (
        "a.csv",
        b"url,text,tt\na,b,c\n",
        r"a\.csv has no column called t; did you mean 'tt'\? choose one of url, text, tt$",
    ),
    "cut short": (
        "a.jsonl.gz",
        gzip.compress(LINES)[:-9],
        r"a\.jsonl\.gz cannot be read: Compressed file ended before",
    ),
    "open quote": ("a.csv", b'url,t\na,"b\n', r"a\.csv, line 2: a double quote is not closed"),
    "text after a quote": ("a.csv", b'url,t\n"a"b,c\n', r"a\.csv, line 2: a double quote"),
    "two objects": ("a.jsonl", LINES + b"{}{}\n", r"a\.jsonl, line 100: not an object of JSON"),
    "not JSON": (
        "a.jsonl",
        LINES + b"[1]\n",
        r"a\.jsonl, line 100: not an object of JSON \(a list\)",
    ),
    "two types": ("a.jsonl", LINES + b'{"url": "c", "t": 5}', r"a\.jsonl cannot be read: Expected"),
    "not UTF-8": (
        "a.csv",
        b"url,t\na,\xff\n",
        r"a\.csv cannot be read: 'utf-8' codec can't decode",
    ),
    "not UTF-8 in another column": (
        "a.jsonl",
        LINES + b'{"url": "a", "other": "\xff"}\n',
        r"a\.jsonl cannot be read: 'utf-8' codec can't decode",
    ),
    "header alone": ("a.csv", b"url,t\n", r"a\.csv has no row"),
}


@pytest.mark.parametrize(("name", "content", "message"), REFUSED.values(), ids=REFUSED)
def test_a_table_that_cannot_be_read_is_refused(cwd, name, content, message):
    Path(name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        joined(name, ["a"])


def test_a_table_behind_a_signed_address_is_read_and_a_refusal_has_its_status(cwd, monkeypatch):
    monkeypatch.setattr("gestalt.data_modules.corpora.remote.TRIES", 1)
    with serving() as server:
        server.files["a.csv?token=T0ken"] = b"url,t\na,one\n"
        address = f"{server.url}/a.csv?token="
        assert joined(f"{address}T0ken", ["a"]).read(0).captions == {"t": "one"}
        for status, said in ((401, "HTTP 401 Unauthorized"), (404, r"no such file \(HTTP 404\)")):
            server.statuses["a.csv?token=0ther"] = [status] * 9
            with pytest.raises(ValueError, match=said) as refusal:
                joined(f"{address}0ther", ["a"])
            assert "0ther" not in str(refusal.value)
        server.statuses["a.csv?token=0ther"] = [500] * 9
        with pytest.raises(ValueError, match="HTTP 500 Internal Server Error"):
            joined(f"{address}0ther", ["a"])


def test_joined_captions_are_in_the_cache_for_any_source():
    data = Data("flickr", root="f", cache="c", captions=Captions("a.csv"), caption={"t": 1})
    check_options(data)
    with pytest.raises(ValueError, match=r"data\.cache"):
        check_options(replace(data, captions=None, caption=None))


def test_a_table_that_is_not_there_is_said(shards):
    data = Data(root=str(shards), captions=Captions("none.csv"), caption={"t": 1})
    with pytest.raises(ValueError, match=r"root=none\.csv: FileNotFoundError: .*; name a file"):
        opened(data)


@pytest.mark.parametrize(
    ("keys", "column", "message"),
    [
        ([f"{number + 1:05d}" for number in PAIRS], "t", r"by=key: 0 of 59 pairs have the url of"),
        (["x"] * 60, "t", r"row for 0 of 60 pairs.* key is \['00000', .* and key \['x', .* in the"),
        (["x"] * 60, "u", r"a\.json has no column called u; did you mean 'url'\? choose one of"),
    ],
)
def test_a_table_of_other_pairs_is_refused(tmp_path, shards, keys, column, message):
    urls = [f"https://x.org/{number}.jpg" for number in PAIRS]
    table = pd.DataFrame({"key": keys, "url": urls, "t": "text"})
    (tmp_path / "table").mkdir()
    table.to_json(tmp_path / "table/a.json", orient="records", lines=True)
    captions = Captions(str(tmp_path / "table"), "key")
    with pytest.raises(ValueError, match=message):
        opened(Data(root=str(shards), captions=captions, caption={column: 1}))
