"""Tables of captions, as others publish them, joined to the pairs that they describe."""

from pathlib import Path

import pandas as pd
import pytest

from gestalt.data_modules.keys import Captions, Data
from gestalt.data_modules.sources import open_data
from gestalt.data_modules.tools.inspection import pack
from tests.data_modules.tar_files import jpeg, write_shards

PAIRS = range(60)
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
def test_each_pair_has_the_text_of_its_row(tmp_path, shards, name, by, named, column, capsys):
    """A tenth of the pairs has none; one has its row twice, another a later one of another text."""
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
    source = open_data(data, size=8, seed=0)
    for number in PAIRS:
        text = TEXTS.get(number, f"new {number}") if number % 10 else None
        read = source.read(number).captions
        assert (read["own"].decode(), read[column]) == (f"picture {number}", text)
        usable = text is not None and len(text) <= 10_000
        assert source.caption(number, 1) == (text.strip() if usable else f"picture {number}")
    facts = source.about()["captions"]
    assert [facts[key] for key in ("pairs", "with_row", "repeated_rows")] == [60, 54, 2]
    (lock,) = tmp_path.glob("joined/*.lock")
    lock.unlink()  # a finished join needs none
    assert open_data(data, size=8, seed=0).digest() == source.digest()
    assert not lock.exists()
    assert capsys.readouterr().err.count("captions: joining") == 1
    lock.with_suffix(".arrow").unlink()
    assert open_data(data, size=8, seed=0).digest() == source.digest()
    with pytest.raises(ValueError, match="lose its columns and weights"):
        pack(source, tmp_path / "packed", shards=1)


def test_pairs_or_a_table_with_other_content_are_joined_again(cwd):
    Path("new.csv").write_text("url,t\na,new a\nb,new b\n")
    data = Data("parquet", root="a.parquet", captions=Captions("new.csv"), caption={"t": 1})
    for urls in ("ab", "ba"):
        pairs = pd.DataFrame({"image": [jpeg(0)] * 2, "caption": "own", "url": [*urls]})
        pairs.to_parquet("a.parquet")
        assert open_data(data, size=8, seed=0).caption(0, 0) == f"new {urls[0]}"
    Path("new.csv").write_text("url,t\na,new a\nb,old b\n")  # of the same size
    assert open_data(data, size=8, seed=0).caption(0, 0) == "old b"


def test_a_table_that_is_not_there_is_said(shards):
    data = Data(root=str(shards), captions=Captions("none.csv"), caption={"t": 1})
    with pytest.raises(ValueError, match=r"root=none\.csv: FileNotFoundError: .*; name a file"):
        open_data(data, size=8, seed=0)


@pytest.mark.parametrize(
    ("keys", "column", "message"),
    [
        ([f"{number + 1:05d}" for number in PAIRS], "t", r"by=key: 0 of 59 pairs have the url of"),
        (["x"] * 60, "t", r"row for 0 of 60 pairs.* key is \['00000', .* and key \['x', .* in the"),
        (["x"] * 60, "u", r"a\.json has no column called u; choose one of key, url, t"),
    ],
)
def test_a_table_of_other_pairs_is_refused(tmp_path, shards, keys, column, message):
    urls = [f"https://x.org/{number}.jpg" for number in PAIRS]
    table = pd.DataFrame({"key": keys, "url": urls, "t": "text"})
    (tmp_path / "table").mkdir()
    table.to_json(tmp_path / "table" / "a.json", orient="records", lines=True)
    captions = Captions(str(tmp_path / "table"), "key")
    with pytest.raises(ValueError, match=message):
        open_data(Data(root=str(shards), captions=captions, caption={column: 1}), size=8, seed=0)
