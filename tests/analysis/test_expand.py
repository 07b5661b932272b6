import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import koodrive_nb as kd
from koodrive_nb.analysis import expansion
from koodrive_nb.columns import STRING


@pytest.fixture
def of(make):
    """Expand the properties of records that have nothing else of their own."""

    def build(*texts, **options):
        frame = make(*({"properties": text} for text in texts))
        return kd.analysis.expand(frame, **options)

    return build


def told(frame):
    return frame.attrs["koodrive"]


def new(frame):
    return [name for name in frame.columns if name.startswith("properties.")]


def test_each_key_becomes_a_column_beside_all_others(make):
    frame = make({"properties": '{"fileCount":3,"trigger":"auto"}'}, {"properties": None})
    frame.attrs["koodrive"] = {"source": "sandbox", "complete": True}
    wide = kd.analysis.expand(frame)
    assert list(wide.columns) == [*frame.columns, "properties.fileCount", "properties.trigger"]
    pd.testing.assert_frame_equal(wide[frame.columns], frame)
    assert wide["properties.fileCount"].tolist() == [3, pd.NA]
    assert told(wide) == {
        "source": "sandbox",
        "complete": True,
        "n_not_expanded": 0,
        "n_keys_left_out": 0,
    }
    assert told(frame) == {"source": "sandbox", "complete": True}


@pytest.mark.parametrize(
    ("texts", "dtype", "values"),
    [
        (["1", "-2"], "Int64", [1, -2]),
        (["9007199254740993", "9223372036854775807"], "Int64", [2**53 + 1, 2**63 - 1]),
        (["1", "9223372036854775808"], STRING, ["1", "9223372036854775808"]),
        (["1.5", "0.25"], "float64", [1.5, 0.25]),
        (["1.5", "2"], "float64", [1.5, 2.0]),
        (["1.5", "9007199254740993"], STRING, ["1.5", "9007199254740993"]),
        (["1.5", "9007199254740993.0"], STRING, ["1.5", "9007199254740993.0"]),
        (["1e400", "2"], STRING, ["1e400", "2"]),
        (["9" * 4000, "1"], STRING, ["9" * 4000, "1"]),
        (["true", "false"], "boolean", [True, False]),
        (["true", "1"], STRING, ["true", "1"]),
        (['"a"', '"1"'], STRING, ["a", "1"]),
        (['"1"', "1"], STRING, ['"1"', "1"]),
        (["[1, 2.50, null]", "[]"], STRING, ["[1,2.5,null]", "[]"]),
        (['[1e400, "手机"]', '{"b":{}}'], STRING, ['[1e400,"手机"]', pd.NA]),
        (["{}", "3"], STRING, ["{}", "3"]),
        (["null", "null"], STRING, [pd.NA, pd.NA]),
        (["null", "7"], "Int64", [pd.NA, 7]),
        (['"cut: \\ud83d"', '"\\ud83d\\ude00 \\\\ud83d"'], STRING, ["cut: \ufffd", "😀 \\ud83d"]),
    ],
    ids=str,
)
def test_a_column_has_the_narrowest_type_that_loses_nothing(of, texts, dtype, values):
    column = of(*(f'{{"a":{text}}}' for text in texts))["properties.a"]
    assert column.dtype == dtype
    assert column.tolist() == values


@pytest.mark.parametrize(
    "text",
    [
        "{broken",
        '{"a":NaN}',
        "[1]",
        "null",
        '"text"',
        " ",
        '{"a":1}{"a":2}',
        '{"a":' * 100_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a":' + "9" * 5_000 + "}",
        '{"a":"\\ud8"}',
    ],
    ids=lambda text: f"{text[:12]} {len(text)}",
)
def test_text_that_is_no_readable_object_is_counted_and_stays(of, text):
    wide = of(text, '{"a":1}', text)
    assert wide["properties.a"].tolist() == [pd.NA, 1, pd.NA]
    assert wide["properties"].tolist()[0] == text
    assert told(wide)["n_not_expanded"] == 2


def test_missing_and_empty_text_is_not_counted(of):
    wide = of(None, "", "{}", "  {}\n")
    assert new(wide) == []
    assert told(wide)["n_not_expanded"] == 0


def test_nested_objects_get_dots_and_the_nested_one_of_two_alike_counts(of):
    wide = of('{"net":{"type":"wifi","at":{"h":3}},"net.type":"lte"}', '{"net":"wifi"}')
    assert wide["properties.net.type"].tolist() == ["wifi", pd.NA]
    assert wide["properties.net.at.h"].tolist() == [3, pd.NA]
    assert wide["properties.net"].tolist() == [pd.NA, "wifi"]


def test_the_last_of_keys_that_stand_twice_counts(of):
    assert of('{"a":1,"a":2}')["properties.a"].tolist() == [2]


def test_the_keys_of_most_rows_come_first_and_at_most_100_become_columns(of):
    hostile = [json.dumps({f"k{n}_{m}": 1 for m in range(20)}) for n in range(200)]
    wide = of('{"z":1,"b":1}', '{"z":1,"a":1}', *hostile)
    assert new(wide)[:4] == ["properties.z", "properties.a", "properties.b", "properties.k0_0"]
    assert len(new(wide)) == 100
    assert told(wide)["n_keys_left_out"] == 3 + 4_000 - 100


def test_keys_that_a_client_chose_badly_make_columns_all_the_same(of):
    wide = of('{"":1,"a b\\n":2,"<b>":3,"\\ud800":4,"手":5}')
    assert set(new(wide)) == {f"properties.{key}" for key in ("", "a b\n", "<b>", "\ufffd", "手")}


def test_other_columns_expand_under_their_own_name_or_a_prefix(make):
    frame = make({"extra": '{"owner":"x"}', "properties": '{"owner":"y"}'})
    wide = kd.analysis.expand(kd.analysis.expand(frame), "extra")
    assert wide["extra.owner"].tolist() == ["x"]
    assert wide["properties.owner"].tolist() == ["y"]
    assert "client.owner" in kd.analysis.expand(frame, prefix="client")
    with pytest.raises(kd.InvalidParameterError, match=r"column\(s\) extra.owner already"):
        kd.analysis.expand(wide, "extra")


def test_rows_keep_their_index_and_order(make):
    frame = make(*({"properties": f'{{"n":{n}}}'} for n in range(4)))
    mixed = frame.iloc[[2, 0, 3]].set_axis([7, 7, 9])
    wide = kd.analysis.expand(mixed)
    assert wide["properties.n"].tolist() == [2, 0, 3]
    assert list(wide.index) == [7, 7, 9]


def test_every_engine_gives_the_same_wide_frame(make, engine):
    texts = ['{"n":1,"t":"x"}', '{"n":2.5,"deep":{"ok":true}}', "[]", "", None, '{"n":null}']
    rows = [{"record_id": str(n), "properties": text} for n, text in enumerate(texts)]
    frame = make(*rows)
    wide = kd.analysis.expand(engine(frame))
    pd.testing.assert_frame_equal(wide, kd.analysis.expand(frame))
    assert told(wide) == {"n_not_expanded": 1, "n_keys_left_out": 0}


def test_classified_records_come_from_another_engine_with_their_categories(make, engine):
    frame = kd.analysis.classify(make({"properties": '{"n":1}'}))
    native = kd.analysis.classify(engine(make({"properties": '{"n":1}'})))
    wide = kd.analysis.expand(native)
    pd.testing.assert_series_equal(wide.dtypes, kd.analysis.expand(frame).dtypes)


def test_words_that_are_none_of_ours_stay_text_rather_than_get_lost(make, engine):
    frame = make({"properties": '{"n":1}'})
    frame["source"] = pd.array(["elsewhere"], dtype=STRING)
    assert kd.analysis.expand(engine(frame))["source"].tolist() == ["elsewhere"]


def test_no_rows_are_no_error(records):
    assert list(kd.analysis.expand(records.head(0)).columns) == list(records.columns)


_VALUES = st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "手"]), _VALUES), max_size=5))
@settings(deadline=None, max_examples=50)
def test_no_value_is_lost_or_changed(dicts):
    texts = pd.array([json.dumps(one) for one in dicts], dtype=STRING)
    wide = kd.analysis.expand(pd.DataFrame({"p": texts}), "p")
    assert told(wide)["n_not_expanded"] == 0
    for key in {key for one in dicts for key in one}:
        values = [one.get(key) for one in dicts]
        column = wide[f"p.{key}"]
        for value, cell in zip(values, column, strict=True):
            if value is None:
                assert pd.isna(cell)
            elif column.dtype == STRING and not all(isinstance(v, str | None) for v in values):
                assert json.loads(cell) == value
            else:
                assert cell == value


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"column": 5}, "column= takes the name"),
        ({"column": "colour"}, "lacks the column.*colour"),
        ({"column": "version"}, "version holds no text"),
        ({"column": "create_time"}, "create_time holds no text"),
        ({"prefix": ""}, "prefix= takes"),
        ({"prefix": 5}, "prefix= takes"),
    ],
    ids=str,
)
def test_what_cannot_be_expanded_is_refused(make, options, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        kd.analysis.expand(make({"version": 1}), **options)


def test_objects_that_were_unpacked_already_are_refused(make):
    frame = make({}).assign(properties=[{"a": 1}])
    with pytest.raises(kd.InvalidParameterError, match="properties holds no text"):
        kd.analysis.expand(frame)


def test_distinct_texts_are_read_once_for_keys_and_once_for_values(make, monkeypatch):
    read = []
    monkeypatch.setattr(expansion, "json_object", lambda text: read.append(text) or {"a": 1})
    kd.analysis.expand(make(*({"properties": '{"a":1}'} for _ in range(50))))
    assert len(read) == 2
