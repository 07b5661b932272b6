import json

import narwhals as nw
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import koodrive_nb as kd
from koodrive_nb.analysis import groups, quality, quality_rules
from koodrive_nb.analysis.expansion import json_object
from koodrive_nb.columns import STRING

RULES = [rule.name for rule in quality_rules.RULES]
BOUND = "2025-11-01T00:00Z"
OF_RECORDS = RULES[: RULES.index("rebound_device")]
HEALTHY = {"end_time": "2025-12-16T09:00Z", "machine_code": "m1", "device_create_time": BOUND}


def quality_of(frame, *rest, **options):
    return kd.analysis.data_quality(frame, *rest, **options).set_index("rule")


def behind(frame, table, rule):
    """Give the records behind a row, as `kd.analysis.rows` finds them."""
    made = table.attrs["koodrive"]["made"]
    lazy = nw.from_native(kd.analysis.classify(frame, as_of=made["as_of"])).lazy()
    row = table.reset_index().set_index("rule", drop=False).loc[rule].to_dict()
    kept = quality.records_behind(lazy, row, json.loads(json.dumps(made)))
    assert kept.collect_schema().names() == lazy.collect_schema().names()
    return sorted(kept.select("record_id").collect("pyarrow").to_native()["record_id"].to_pylist())


@pytest.fixture
def devices(make):
    """Make bound devices: one dict a device."""

    def build(*rows):
        rows = [HEALTHY | row for row in rows]
        columns = [column.name for column in kd.columns.columns("devices")]
        return make(*rows)[columns]

    return build


@pytest.fixture
def dirty(make):
    """Records that break every rule, some of them twice."""
    return make(
        *(HEALTHY | {"record_id": "twin"} for _ in range(2)),
        HEALTHY | {"record_id": "twin", "user_id": "v", "machine_code": "m2"},
        HEALTHY | {"device_id": None, "device_name": None, "machine_code": None},
        HEALTHY | {"status_code": 3},
        HEALTHY | {"status_code": None, "properties": "[]"},
        HEALTHY | {"module": "unknown", "properties": '{"n":NaN}'},
        HEALTHY | {"end_time": None, "properties": "[]", "extra": '{"owner":1}'},
        HEALTHY | {"status_code": 0, "properties": ""},
        HEALTHY | {"end_time": "2025-12-16T08:00Z", "properties": '{"n":[1]}'},
        HEALTHY | {"create_time": "2025-12-17T08:36Z", "end_time": "2025-12-17T08:40Z"},
        HEALTHY | {"create_time": None},
        HEALTHY | {"device_create_time": "2025-12-16T08:30:00.001Z"},
        HEALTHY | {"device_id": "2", "device_name": " tablet ", "machine_code": "m3"},
        HEALTHY | {"device_id": "3", "device_name": "tablet", "machine_code": "m1"},
    )


def test_there_is_one_row_for_every_rule_also_where_nothing_is_wrong(make):
    table = kd.analysis.data_quality(make(HEALTHY))
    assert list(table["rule"]) == RULES
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == {
        "rule": str(STRING),
        "severity": "category",
        "n": "Int64",
        "of": "Int64",
        "share": "float64",
        "what": str(STRING),
        "example_ids": str(STRING),
    }
    by_rule = table.set_index("rule")
    computed = by_rule.drop(["coerced", "unbound_device", "silent_device"])
    assert set(computed["n"]) == {0}
    assert set(computed["of"]) == {1}
    assert by_rule["example_ids"].isna().all()


@pytest.mark.parametrize(
    ("rule", "row"),
    [
        ("missing_device", {"device_id": None}),
        ("unknown_status", {"status_code": 3}),
        ("unknown_status", {"status_code": None}),
        ("unknown_module", {"module": "unknown"}),
        ("unknown_module", {"module": "album", "module_code": None}),
        ("missing_end", {"end_time": None}),
        ("end_on_open", {"status_code": 0}),
        ("end_before_start", {"end_time": "2025-12-16T08:29:59.999Z"}),
        (
            "future_start",
            {"create_time": "2025-12-17T08:35:00.001Z", "end_time": "2025-12-18T00:00Z"},
        ),
        ("missing_start", {"create_time": None}),
        ("bad_properties", {"properties": "{broken"}),
        ("bad_properties", {"properties": "[1]"}),
        ("bad_properties", {"properties": "null"}),
        ("bad_properties", {"properties": '{"a":1}}'}),
        ("bad_properties", {"properties": '{"a":1}\u2028'}),
        ("bad_properties", {"properties": '{"a":01}'}),
        ("bad_properties", {"properties": '{"a":' * 50_000}),
        ("misfit", {"extra": "{}"}),
        ("start_before_bind", {"device_create_time": "2025-12-16T08:30:00.001Z"}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_record_breaks_the_rule_it_breaks_and_no_other(make, rule, row):
    frame = make(HEALTHY, HEALTHY, HEALTHY | row | {"record_id": "bad"})
    table = quality_of(frame)
    assert table["n"].fillna(0)[table["n"].fillna(0) > 0].to_dict() == {rule: 1}
    assert table.loc[rule, "of"] == 3
    assert table.loc[rule, "share"] == pytest.approx(1 / 3)
    assert table.loc[rule, "example_ids"] == "bad"
    assert behind(frame, table, rule) == ["bad"]


@pytest.mark.parametrize(
    "row",
    [
        {"status_code": 2, "end_time": None},
        {"status_code": 0, "end_time": None},
        {"end_time": "2025-12-16T08:30Z"},
        {"create_time": "2025-12-17T08:35Z", "end_time": "2025-12-17T08:35Z"},
        {"device_create_time": "2025-12-16T08:30Z"},
        {"device_create_time": None},
        {"properties": None},
        {"properties": ""},
        {"properties": ' {"a":[{"b":1e400}], "a":"\\ud83d"}\n'},
        {"properties": '{"' + "a" * 2_000 + '":"手"}'},
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_in_order_breaks_no_rule(make, row):
    assert quality_of(make(HEALTHY | row))["n"].fillna(0).sum() == 0


def test_each_copy_of_an_id_that_a_user_has_twice_is_counted(dirty):
    table = quality_of(dirty)
    assert table.loc["duplicate_id", "n"] == 2
    assert table.loc["duplicate_id", "example_ids"] == "twin"
    assert behind(dirty, table, "duplicate_id") == ["twin", "twin"]


def test_examples_are_the_first_three_ids_in_the_order_of_text(make):
    rows = [HEALTHY | {"record_id": identity, "extra": "{}"} for identity in ("9", "10", "8", "7")]
    table = quality_of(make(*rows, rows[1], HEALTHY | {"record_id": "1"}))
    assert table.loc["misfit", "example_ids"] == "10, 7, 8"


def test_examples_of_bad_properties_come_from_all_bad_texts(make):
    texts = {"6": "[", "2": "]", "5": "]", "3": "x", "4": "y", "1": "{}"}
    rows = [HEALTHY | {"record_id": key, "properties": text} for key, text in texts.items()]
    frame = make(*rows)
    table = quality_of(frame)
    assert (table.loc["bad_properties", "n"], table.loc["bad_properties", "of"]) == (5, 6)
    assert table.loc["bad_properties", "example_ids"] == "2, 3, 4"
    assert behind(frame, table, "bad_properties") == list("23456")


def test_too_many_different_texts_are_not_computable(make, monkeypatch, engine):
    monkeypatch.setattr(quality_rules, "MAX_TEXTS", 2)
    few = make(*(HEALTHY | {"properties": text} for text in ("[1]", "[1]", "[2]", "{}")))
    many = make(*(HEALTHY | {"properties": text} for text in ("[1]", "[2]", "[3]")))
    for moved in (lambda frame: frame, engine):
        assert quality_of(moved(few)).loc["bad_properties", "n"] == 3
        row = quality_of(moved(many)).loc["bad_properties"]
        assert row[["n", "of", "share", "example_ids"]].isna().all()


@given(st.from_regex(quality_rules._PLAIN_OBJECT, fullmatch=True))
@settings(deadline=None, max_examples=100)
def test_text_that_engines_take_for_an_object_is_one(text):
    assert json_object(text) is not None


def test_a_machine_under_two_device_ids_of_a_user_was_bound_again(make):
    frame = make(
        *(HEALTHY | {"device_id": name, "device_name": name} for name in "aab"),
        HEALTHY | {"device_id": "c", "device_name": "c", "user_id": "v"},
        HEALTHY | {"device_id": "d", "device_name": "d", "machine_code": "m2"},
        *(HEALTHY | {"device_id": name, "device_name": name, "machine_code": ""} for name in "ef"),
    )
    table = quality_of(frame)
    assert list(table.loc["rebound_device", ["n", "of", "example_ids"]]) == [1, 3, "m1"]
    assert behind(frame, table, "rebound_device") == ["0", "1", "2"]


def test_devices_of_one_user_share_a_name(make):
    codes = {"a": " x", "b": "x ", "c": "y", "d": "", "e": " ", "f": None}
    frame = make(
        *(
            HEALTHY | {"device_id": key, "device_name": name, "machine_code": key}
            for key, name in codes.items()
        ),
        HEALTHY | {"device_id": "a", "device_name": "renamed", "machine_code": "a"},
        HEALTHY | {"device_id": "g", "device_name": "y", "machine_code": "g", "user_id": "v"},
    )
    table = quality_of(frame)
    assert list(table.loc["duplicate_name", ["n", "of", "example_ids"]]) == [2, 7, "a, b"]
    assert behind(frame, table, "duplicate_name") == ["0", "1", "6"]


def test_devices_that_are_given_are_compared_with_those_of_the_records(make, devices):
    frame = make(
        *(HEALTHY | {"device_id": name, "device_name": name} for name in "aab"),
        HEALTHY | {"device_id": None},
    )
    bound = devices(
        *({"device_id": name, "device_name": name, "machine_code": name} for name in "bcd"),
        {"device_id": "b", "user_id": "v", "device_name": "a", "machine_code": "z"},
    )
    table = quality_of(frame, bound)
    assert list(table.loc["unbound_device", ["n", "of", "example_ids"]]) == [1, 2, "a"]
    assert list(table.loc["silent_device", ["n", "of", "example_ids"]]) == [3, 4, "b, c, d"]
    assert table.loc["duplicate_name", "of"] == 5
    assert behind(frame, table, "unbound_device") == ["0", "1"]
    assert behind(frame, table, "silent_device") == []


def test_a_silent_device_can_be_the_other_one_of_a_machine_or_a_name(make, devices):
    frame = make(HEALTHY | {"device_id": "new"})
    table = quality_of(frame, devices({"device_id": "old"}))
    assert (table.loc["rebound_device", "n"], table.loc["duplicate_name", "n"]) == (1, 2)
    assert behind(frame, table, "rebound_device") == ["0"]


def test_without_devices_what_rests_on_them_is_not_computable(dirty):
    table = quality_of(dirty)
    for rule in ("unbound_device", "silent_device"):
        assert table.loc[rule, ["n", "of", "share", "example_ids"]].isna().all()
        with pytest.raises(kd.InvalidParameterError, match=f"{rule} could not be computed"):
            behind(dirty, table, rule)


def test_bent_values_are_told_by_the_ledger_as_long_as_the_frame_has_one(service):
    item = {"recordId": "7", "moduleCode": "101", "status": 1, "createTime": "2025-12-17T08:00:00"}
    service.answer = lambda asked: service.Answer({"code": 0, "msg": "success", "data": item})
    with service.connect() as client:
        frame = client.record("7")
    for told in (frame, kd.analysis.classify(frame)):
        row = quality_of(told).loc["coerced"]
        assert (row["n"], row["of"]) == (1, 1)
        assert pd.isna(row["share"])
    with pytest.raises(kd.InvalidParameterError, match="only their number"):
        behind(frame, quality_of(frame), "coerced")
    for lost in (pl.from_pandas(frame), frame.copy().pipe(_without_attrs)):
        assert quality_of(lost).loc["coerced", ["n", "of"]].isna().all()


def _without_attrs(frame):
    frame.attrs = {}
    return frame


def test_every_engine_gives_the_same_table_and_the_same_records_behind_it(dirty, devices, engine):
    bound = devices({"device_id": "9", "device_name": "tablet"}, {"device_id": "2"})
    expected = kd.analysis.data_quality(dirty, bound)
    table = kd.analysis.data_quality(engine(dirty), engine(bound))
    pd.testing.assert_frame_equal(table, expected)
    assert table.attrs == expected.attrs
    assert (expected["n"].dropna() > 0).all()


def test_the_records_behind_a_rule_are_as_many_as_it_counts(dirty):
    for moved in (dirty, pl.from_pandas(dirty)):
        table = quality_of(moved)
        for rule in set(OF_RECORDS) - {"coerced"}:
            assert len(behind(moved, table, rule)) == table.loc[rule, "n"] > 0


def test_classified_or_not_the_table_is_the_same(dirty, devices):
    bound = devices({"device_id": "9", "device_create_time": "2025-12-10T00:00Z"})
    raw = kd.analysis.data_quality(dirty, bound, as_of="2025-12-16T12:00Z")
    classified = kd.analysis.classify(dirty, as_of="2025-12-16T12:00Z")
    pd.testing.assert_frame_equal(kd.analysis.data_quality(classified, bound), raw)
    with pytest.raises(kd.InvalidParameterError, match="classified already"):
        kd.analysis.data_quality(classified, as_of="2025-12-16T12:00Z")


def test_what_a_past_now_could_not_know_is_left_out(make, devices):
    frame = make(
        HEALTHY | {"extra": "{}"},
        HEALTHY | {"extra": "{}", "create_time": "2025-12-17T00:00Z", "device_id": "late"},
        HEALTHY | {"extra": "{}", "create_time": "2025-12-18T00:00Z"},
    )
    bound = devices({"device_id": "new", "device_create_time": "2025-12-16T13:00Z"})
    table = quality_of(frame, bound, as_of="2025-12-16T12:00Z")
    assert (table.loc["misfit", "n"], table.loc["misfit", "of"]) == (2, 2)
    # A clock that is ahead stays in sight.
    assert table.loc["future_start", "n"] == 1
    assert (table.loc["unbound_device", "n"], table.loc["silent_device", "of"]) == (1, 0)
    assert behind(frame, table, "misfit") == ["0", "2"]
    assert quality_of(frame, bound).loc["silent_device", "n"] == 1


def test_no_records_are_no_error(records, devices):
    empty = records.head(0)
    table = quality_of(empty)
    known = table.drop(["coerced", "unbound_device", "silent_device"])
    assert set(known["n"]) == set(known["of"]) == {0}
    assert table["share"].dtype == "float64"
    assert table["share"].isna().all()
    assert list(quality_of(empty, devices({})).loc["silent_device", ["n", "of"]]) == [1, 1]


def test_the_table_says_what_it_is_based_on(records):
    about = kd.analysis.data_quality(records, tz="Asia/Shanghai", as_of="2025-12-17").attrs[
        "koodrive"
    ]
    assert about["n_records"] <= len(records)
    assert (about["source"], about["complete"]) == ("sandbox", True)
    assert about["tz"] == "Asia/Shanghai"
    assert about["as_of"] == "2025-12-17T00:00:00+00:00"
    assert "stuck_rule" not in about
    assert about["made"]["table"] == "data_quality"
    assert about["made"]["as_of"] == "2025-12-17T00:00:00+00:00"


def test_more_devices_than_a_table_remembers_are_refused_with_what_to_do(make, monkeypatch):
    monkeypatch.setattr(quality, "MAX_DEVICES_BEHIND", 2)
    frame = make(*(HEALTHY | {"device_id": name, "machine_code": name} for name in "abc"))
    table = quality_of(frame)
    assert table.loc["duplicate_name", "n"] == 3
    with pytest.raises(kd.InvalidParameterError, match="select the records of some users"):
        behind(frame, table, "duplicate_name")


def test_the_numbers_of_very_many_devices_do_not_run_over(make, monkeypatch):
    frame = make(*(HEALTHY | {"device_id": name, "machine_code": name} for name in "abc"))
    expected = kd.analysis.data_quality(frame)
    # As if there were so many devices and names that their numbers did not fit.
    monkeypatch.setattr(groups, "_INT64_MAX", 1)
    pd.testing.assert_frame_equal(kd.analysis.data_quality(frame), expected)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"as_of": "soon"}, "as_of= takes an instant"),
        ({"tz": "Mars"}, "Mars"),
        ({"devices": 5}, r"client.records\(\) gives one"),
        ({"devices": pd.DataFrame({"device_id": []})}, r"lacks the column.*user_id"),
    ],
    ids=["as_of", "tz", "no devices", "columns"],
)
def test_what_this_does_not_take_is_refused(records, options, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        kd.analysis.data_quality(records, **options)
    with pytest.raises(kd.InvalidParameterError, match=r"lacks the column.*extra"):
        kd.analysis.data_quality(records.drop(columns="extra"))
