"""What is written can be read back, is safe to open, and is there whole or not at all."""

import csv
import io
import json
import re
import resource
import sys
import zipfile
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape

import koodrive_nb as kd
from koodrive_nb.columns import STRING

FORMATS = [".csv", ".xlsx", ".parquet", ".jsonl"]
SIGNS = "=+-@＝＋－＠"
FORMULAS = [
    "=cmd|' /C calc'!A0",
    "@SUM(1)",
    "+1",
    "-1",
    "\t=1",
    "\r=1",
    "\n=1",
    " \u00a0=1",
    "\u200b=1",
    "＝1",
]
HOSTILE = [
    *FORMULAS,
    "https://example.com",
    "{=1}",
    "<r><t>x</t></r></is></c><c><f>1+1</f></c><c><is></r>",
    "_x0041_",
    "\u202eabc",
    "华为 Mate 60 📱",
    'a "quoted", name\r\nin two lines',
    "\x00\x07",
    "007",
    " ",
]


@pytest.fixture(scope="module")
def classified(records):
    return kd.analysis.classify(records)


def read_csv(path, **options):
    return pd.read_csv(path, keep_default_na=False, na_values=[""], **options)


def cells(path, sheet="data"):
    """Give the rows of a sheet as tuples of cells."""
    return list(openpyxl.load_workbook(path)[sheet].iter_rows())


def sheet_rows(path, sheet="data"):
    """Give the rows of a sheet as dicts of values, as Excel shows them."""
    header, *rows = [
        [
            unescape(cell.value) if cell.data_type == "s" and cell.value else cell.value
            for cell in row
        ]
        for row in cells(path, sheet)
    ]
    return [dict(zip(header, row, strict=True)) for row in rows]


def facts(path):
    return {row["fact"]: row["value"] for row in sheet_rows(path, "how this was made")}


def named(*names):
    return pd.DataFrame({"device_name": pd.Series(names, dtype=STRING)})


def read_names(path):
    """Give the names that a file holds, without the apostrophe that CSV needs."""
    if path.suffix == ".xlsx":
        return [row["device_name"] for row in sheet_rows(path)]
    if path.suffix == ".parquet":
        return list(pd.read_parquet(path)["device_name"])
    if path.suffix == ".jsonl":
        return [json.loads(line)["device_name"] for line in path.read_bytes().splitlines()]
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [unguarded(row[0]) for row in list(csv.reader(file))[1:]]


def unguarded(text):
    """Take away the apostrophes that make text in CSV safe."""
    return re.sub(rf"([;\t\r\n])'(?=\W*[{re.escape(SIGNS)}])", r"\1", text.removeprefix("'"))


def test_csv_has_every_value_with_its_instant(classified, tmp_path):
    path = kd.export.write(classified, tmp_path / "records.csv")
    back = read_csv(path, dtype=str)
    assert list(back.columns) == list(classified.columns)
    for name, dtype in classified.dtypes.items():
        if isinstance(dtype, pd.DatetimeTZDtype):
            assert back[name].dropna().str.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z").all()
            read = pd.to_datetime(back[name], utc=True).astype(dtype)
        elif dtype.kind == "f" or dtype == "Int64":
            read = pd.to_numeric(back[name]).astype(dtype)
        else:
            read = back[name].str.removeprefix("'").astype(dtype)
        pd.testing.assert_series_equal(read, classified[name])


def test_excel_and_pandas_both_know_the_encoding_of_a_csv(tmp_path):
    path = kd.export.write(named("华为 📱"), tmp_path / "names.csv")
    assert path.read_bytes() == b'\xef\xbb\xbf"device_name"\n"' + "华为 📱".encode() + b'"\n'
    assert pd.read_csv(path).to_dict("list") == {"device_name": ["华为 📱"]}


def test_a_negative_number_in_a_csv_stays_a_number(tmp_path):
    frame = pd.DataFrame({"change": [-1.5, float("nan")], "n": pd.array([-2, None], "Int64")})
    path = kd.export.write(frame, tmp_path / "numbers.csv")
    assert path.read_text("utf-8-sig").splitlines() == ['"change","n"', "-1.5,-2", ","]


@pytest.mark.parametrize("name", FORMULAS)
def test_text_that_would_run_as_a_formula_is_marked_in_csv_alone(name, tmp_path):
    path = kd.export.write(named(name).rename(columns={"device_name": name}), tmp_path / "a.csv")
    with path.open(encoding="utf-8-sig", newline="") as file:
        read = [row[0] for row in csv.reader(file)]
    assert all(text.startswith("'") for text in read)
    assert [unguarded(text) for text in read] == [name, name]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.builds(
            str.__add__,
            st.text(st.sampled_from(" ;\t\r\n\x00\u00a0\u3000\u200b\ufeff'\"" + SIGNS), max_size=4),
            st.text(),
        ),
        min_size=1,
    )
)
def test_no_cell_of_a_csv_begins_with_a_formula(tmp_path, names):
    path = kd.export.write(named(*names), tmp_path / "names.csv")
    with path.open(encoding="utf-8", newline="") as file:
        read = list(csv.reader(io.StringIO(file.read().removeprefix("\ufeff"), newline="")))
    assert [unguarded(row[0]) for row in read[1:]] == [unguarded(name) for name in names]
    for row in read:
        assert not re.match(r"[\t\r\n]", row[0])
        # Spreadsheets may split at these, whatever is quoted.
        for cell in re.split(r"[;\t\r\n]", row[0]):
            assert not re.match(rf"[\s\x00\u200b\ufeff]*[{re.escape(SIGNS)}]", cell)


@pytest.mark.parametrize("suffix", FORMATS)
def test_hostile_names_come_back_as_they_were(suffix, tmp_path):
    path = kd.export.write(named(*HOSTILE), tmp_path / f"names{suffix}")
    assert read_names(path) == HOSTILE


def test_no_text_in_a_workbook_is_a_formula_or_a_link(tmp_path):
    path = kd.export.write(named(*HOSTILE), tmp_path / "names.xlsx", made="=1+1")
    for sheet in ("data", "how this was made"):
        for row in cells(path, sheet):
            assert {cell.data_type for cell in row} <= {"s", "inlineStr"}
            assert all(cell.hyperlink is None for cell in row)
    assert facts(path)["made by"] == "=1+1"


@pytest.mark.parametrize("suffix", FORMATS)
def test_half_a_surrogate_pair_is_spelled_out(suffix, tmp_path):
    frame = pd.DataFrame({"device_name": pd.Series(["a\ud800b"], dtype=object)})
    path = kd.export.write(frame, tmp_path / f"names{suffix}")
    assert read_names(path) == ["a\\ud800b"]


def test_a_workbook_has_ids_as_text_numbers_as_numbers_and_times_in_both_zones(
    classified, tmp_path
):
    path = kd.export.write(classified, tmp_path / "records.xlsx", tz="Asia/Shanghai")
    rows = sheet_rows(path)
    assert len(rows) == len(classified)
    assert list(rows[0])[4:8] == [
        *("create_time (Asia/Shanghai)", "create_time (UTC)"),
        *("end_time (Asia/Shanghai)", "end_time (UTC)"),
    ]
    for row, (_, record) in zip(rows, classified.iterrows(), strict=True):
        for name, value in record.items():
            if isinstance(value, pd.Timestamp):
                found = row[f"{name} (UTC)"].replace(tzinfo=UTC)
                assert abs(found - value.to_pydatetime()) < timedelta(milliseconds=1)
                ahead = row[f"{name} (Asia/Shanghai)"] - row[f"{name} (UTC)"]
                assert abs(ahead - timedelta(hours=8)) < timedelta(milliseconds=1)
            elif pd.isna(value):
                assert row.get(name) is None
            else:
                # A workbook has 16 digits of a number.
                assert row[name] == (pytest.approx(value) if isinstance(value, float) else value)
                assert isinstance(row[name], str) == isinstance(value, str)


def test_a_workbook_is_ready_to_be_filtered(classified, tmp_path):
    path = kd.export.write(classified, tmp_path / "records.xlsx")
    sheet = openpyxl.load_workbook(path)["data"]
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == f"A1:Z{len(classified) + 1}"
    assert sheet["A1"].font.bold
    assert sheet["E2"].number_format == "yyyy-mm-dd hh:mm:ss"
    assert 19 < sheet.column_dimensions["A"].width < 23
    assert all(column.width < 62 for column in sheet.column_dimensions.values())


def test_the_zone_is_the_argument_then_the_environment_then_utc_alone(
    classified, tmp_path, monkeypatch
):
    def times():
        path = kd.export.write(classified[["create_time"]], tmp_path / "times.xlsx", tz=tz)
        return list(sheet_rows(path)[0]), facts(path)["display zone"]

    tz = None
    assert times() == (["create_time (UTC)"], "UTC")
    monkeypatch.setenv("KOODRIVE_TZ", "Asia/Shanghai")
    assert times() == (["create_time (Asia/Shanghai)", "create_time (UTC)"], "Asia/Shanghai")
    tz = "Europe/Berlin"
    assert times() == (["create_time (Europe/Berlin)", "create_time (UTC)"], "Europe/Berlin")


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_stay_apart_where_the_clock_is_put_back(unit, tmp_path):
    instants = pd.to_datetime(["2025-10-26T00:30Z", None, "2025-10-26T01:30Z"], utc=True)
    instants = instants.as_unit(unit)
    path = kd.export.write(pd.DataFrame({"at": instants}), tmp_path / "a.xlsx", tz="Europe/Berlin")
    half_past_two = datetime(2025, 10, 26, 2, 30)  # noqa: DTZ001 -- a worksheet has no zones
    first, missing, second = sheet_rows(path)
    assert first["at (Europe/Berlin)"] == second["at (Europe/Berlin)"] == half_past_two
    assert second["at (UTC)"] - first["at (UTC)"] == timedelta(hours=1)
    assert missing == {"at (Europe/Berlin)": None, "at (UTC)": None}


def test_what_excel_cannot_hold_is_text(tmp_path):
    days = ["1899-12-31T00:00:00", "9999-12-31T23:59:59", "2025-01-01T00:00:00"]
    frame = pd.DataFrame(
        {
            "at": pd.Series(days).astype("datetime64[ms]").dt.tz_localize("UTC"),
            "share": [float("inf"), float("-inf"), 0.5],
            "number": [10**18, -(10**15), 7],
        }
    )
    path = kd.export.write(frame, tmp_path / "odd.xlsx", tz="Asia/Shanghai")
    rows = sheet_rows(path)
    for name in ("at (Asia/Shanghai)", "at (UTC)"):
        assert [row[name] for row in rows[:2]] == [f"{day}.000Z" for day in days[:2]]
    assert rows[2]["at (Asia/Shanghai)"] == datetime(2025, 1, 1, 8)  # noqa: DTZ001 -- as above
    assert [row["share"] for row in rows] == ["inf", "-inf", 0.5]
    assert [row["number"] for row in rows] == ["1000000000000000000", "-1000000000000000", 7]


@pytest.mark.parametrize("letter", ["a", "📱"])
def test_text_too_long_for_a_cell_is_cut_with_a_mark_and_counted(letter, tmp_path):
    path = kd.export.write(named(letter * 40_000, "é" * 32_767), tmp_path / "long.xlsx")
    long, fits = read_names(path)
    assert len(long.encode("utf-16-le")) // 2 in {32_766, 32_767}
    assert long.endswith(letter + "… [cut: 40000 characters]")
    assert fits == "é" * 32_767
    assert facts(path)["cells cut"].startswith("1:")
    for suffix in (".csv", ".parquet", ".jsonl"):
        other = kd.export.write(named(letter * 40_000), tmp_path / f"long{suffix}")
        assert read_names(other) == [letter * 40_000]


@pytest.mark.parametrize(
    ("frame", "size"),
    [
        (pd.DataFrame({"n": np.zeros(1_048_576, "int8")}), "1048576 rows of 1 columns"),
        (pd.DataFrame(np.zeros((1, 16_385))), "1 rows of 16385 columns"),
        (
            pd.DataFrame(np.zeros((1, 8_193), "M8[ms]")).apply(lambda s: s.dt.tz_localize("UTC")),
            "1 rows of 16386 columns",
        ),
    ],
    ids=["rows", "columns", "columns of times, which come twice"],
)
def test_what_no_worksheet_holds_is_refused_before_anything_is_written(frame, size, tmp_path):
    with pytest.raises(kd.InvalidParameterError, match=rf"{size} .*\.parquet.* select fewer"):
        kd.export.write(frame, tmp_path / "large.xlsx", tz="Asia/Shanghai")
    assert list(tmp_path.iterdir()) == []


def test_a_workbook_says_how_it_was_made(classified, tmp_path):
    line = "kd.analysis.select(records, state='stuck')"
    stuck = kd.analysis.select(classified, state="stuck")
    told = facts(kd.export.write(stuck, tmp_path / "a.xlsx", tz="Asia/Shanghai", made=line))
    assert told["rows written"] == str(len(stuck))
    assert told["made by"] == line
    assert told["source"] == "sandbox"
    assert told["complete"].startswith("yes")
    assert told["newest fetched_at (UTC)"] == stuck["fetched_at"].max().isoformat()
    assert told["display zone"] == "Asia/Shanghai"
    breakdown = kd.analysis.durations(stuck).attrs["koodrive"]
    assert told["stuck rule"] == breakdown["stuck_rule"]
    assert "no status for a backup that failed" in told["stuck"]
    assert "no restore was tested" in told["completed"]
    assert told["cells cut"] == "none"
    assert re.fullmatch(r"\d+\.\d+.*", told["koodrive_nb"])


def test_a_workbook_says_how_each_part_was_fetched(records, tmp_path):
    path = kd.export.write(records, tmp_path / "a.xlsx")
    told = [
        row["value"] for row in sheet_rows(path, "how this was made") if row["fact"] == "fetched"
    ]
    ledger = kd.ledger(records)
    assert len(told) == len(ledger)
    assert told[0].startswith("records of user 1505084218764547200, module folder: 96 rows in 1 ")
    assert "ended: no cursor, at 2025-12-17T08:30:00+00:00" in told[0]


def test_a_workbook_says_what_it_cannot_know(tmp_path):
    told = facts(kd.export.write(named("phone"), tmp_path / "a.xlsx"))
    assert told["made by"] == "not told"
    assert told["source"] == "not known"
    assert told["complete"].startswith("not known")
    assert told["newest fetched_at (UTC)"] == "not known"
    assert told["fetched"] == "The frame no longer says how it was fetched."
    assert "stuck rule" not in told
    frame = named("phone")
    frame.attrs["koodrive"] = {"complete": False, "source": "live"}
    told = facts(kd.export.write(frame, tmp_path / "a.xlsx"))
    assert told["source"] == "live"
    assert told["complete"].startswith("no: part of it did not come")


def test_a_table_tells_its_own_facts(classified, tmp_path):
    table = kd.analysis.exposure(classified)
    told = facts(kd.export.write(table, tmp_path / "exposure.xlsx"))
    about = table.attrs["koodrive"]
    assert told["stuck rule"] == about["stuck_rule"]
    assert json.loads(told["made"]) == about["made"]
    assert told["rpo h"] == str(about["rpo_h"])


def test_the_same_frame_gives_the_same_workbook(classified, tmp_path):
    first, second = (
        kd.export.write(classified, tmp_path / name).read_bytes() for name in ("a.xlsx", "b.xlsx")
    )
    assert first == second


def test_parquet_gives_the_same_types_back(classified, tmp_path):
    back = pd.read_parquet(kd.export.write(classified, tmp_path / "records.parquet"))
    pd.testing.assert_frame_equal(back, classified, check_categorical=False, check_dtype=False)
    assert list(back.dtypes.astype(str)) == list(classified.dtypes.astype(str))
    for name, dtype in classified.dtypes.items():
        if isinstance(dtype, pd.CategoricalDtype):
            assert list(back[name].cat.categories) == list(dtype.categories)
            pd.testing.assert_series_equal(back[name].cat.codes, classified[name].cat.codes)
        elif not isinstance(dtype, pd.StringDtype):
            # How text is stored is the choice of the pandas that reads it.
            assert back[name].dtype == dtype
    assert len(kd.ledger(back)) == len(kd.ledger(classified))


def test_parquet_keeps_the_facts_and_nothing_that_others_put_there(classified, tmp_path):
    frame = classified.head(1).copy()
    frame.attrs["token"] = "m4rk-of-a-secret"
    frame.attrs["koodrive"]["client"] = object()
    path = kd.export.write(frame, tmp_path / "records.parquet", made="records.head(1)")
    about = pd.read_parquet(path).attrs
    assert about == {"koodrive": classified.attrs["koodrive"]}
    assert pq.read_schema(path).metadata[b"koodrive_nb.made"] == b"records.head(1)"
    assert b"m4rk" not in path.read_bytes()


def test_json_lines_have_every_value_under_its_name(classified, tmp_path):
    path = kd.export.write(classified, tmp_path / "records.jsonl")
    back = pd.read_json(path, lines=True, dtype=False)
    assert list(back.columns) == list(classified.columns)
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert list(rows[0]) == list(classified.columns)
    for name, dtype in classified.dtypes.items():
        read = pd.Series([row[name] for row in rows])
        if isinstance(dtype, pd.DatetimeTZDtype):
            assert read.dropna().str.endswith("Z").all()
            read = pd.to_datetime(read, utc=True)
        pd.testing.assert_series_equal(read.astype(dtype), classified[name], check_names=False)
    assert {type(row["record_id"]) for row in rows} == {str}
    assert {type(row["duration_s"]) for row in rows} == {float, type(None)}


def test_json_lines_are_readable_and_lose_no_infinity(tmp_path):
    frame = named("华为 📱", None).assign(share=[float("inf"), float("nan")], fits=[True, False])
    path = kd.export.write(frame, tmp_path / "a.jsonl")
    assert path.read_text("utf-8").splitlines() == [
        '{"device_name":"华为 📱","share":"inf","fits":true}',
        '{"device_name":null,"share":null,"fits":false}',
    ]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "table",
    ["activity", "adherence", "data_quality", "durations", "exposure", "protection_status"],
)
def test_every_table_of_the_analysis_can_be_written(table, suffix, classified, tmp_path):
    frame = getattr(kd.analysis, table)(classified)
    path = kd.export.write(frame, tmp_path / f"table{suffix}")
    assert len(read_any(path)) == len(frame)


def read_any(path):
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".xlsx":
        return pd.DataFrame(sheet_rows(path), columns=[cell.value for cell in cells(path)[0]])
    if path.suffix == ".csv":
        return pd.read_csv(path)
    return pd.DataFrame([json.loads(line) for line in path.read_bytes().splitlines()])


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_frame_without_rows_gives_a_file_that_can_be_read(suffix, classified, tmp_path):
    path = kd.export.write(classified.head(0), tmp_path / f"none{suffix}")
    back = read_any(path)
    assert len(back) == 0
    if suffix == ".parquet":
        assert list(back.dtypes.astype(str)) == list(classified.dtypes.astype(str))
    elif suffix == ".xlsx":
        assert len(back.columns) == len(classified.columns)
    elif suffix == ".csv":
        assert list(back.columns) == list(classified.columns)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_frame_without_columns_gives_a_file(suffix, tmp_path):
    assert kd.export.write(pd.DataFrame(), tmp_path / f"none{suffix}").is_file()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("index", "names"),
    [
        (pd.RangeIndex(2), ["n"]),
        (pd.Index([5, 3]), ["n"]),
        (pd.Index([5, 3], name="place"), ["place", "n"]),
        (pd.Index(["a", "b"]), ["index", "n"]),
        (pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None]), ["x", "level_1", "n"]),
    ],
    ids=["rows counted", "rows selected", "named", "text", "two levels"],
)
def test_an_index_that_says_something_becomes_columns(index, names, suffix, tmp_path):
    frame = pd.DataFrame({"n": [1, 2]}, index=index)
    path = kd.export.write(frame, tmp_path / f"a{suffix}")
    assert list(read_any(path).columns) == names
    assert frame.index is index


@pytest.mark.parametrize("suffix", FORMATS)
def test_names_of_columns_become_text(suffix, tmp_path):
    path = kd.export.write(pd.DataFrame([[1, 2]]), tmp_path / f"a{suffix}")
    assert list(read_any(path).columns) == ["0", "1"]


@pytest.mark.parametrize(
    ("frame", "advice"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column 'a'"),
        (pd.DataFrame([[1, 2]], columns=["1", 1]), "more than one column '1'"),
        (pd.DataFrame({"a": [1]}, pd.Index([1], name="a")), "index and a column .*reset_index"),
        (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "several levels"),
        (pd.Series([1]), "pandas frame, not Series"),
        (None, "pandas frame, not NoneType"),
        ([{"a": 1}], "pandas frame, not list"),
    ],
)
def test_what_has_no_columns_with_names_of_their_own_is_refused(frame, advice, tmp_path):
    with pytest.raises(kd.InvalidParameterError, match=advice):
        kd.export.write(frame, tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


ODD = {
    "nested": ({"a": [1, "é"]}, '{"a": [1, "é"]}'),
    "list": ([1, None], "[1, null]"),
    "array": (np.array([1, 2]), "[1, 2]"),
    "keys that JSON lacks": ({(1, 2): 3}, "{(1, 2): 3}"),
    "date": (date(2025, 1, 2), "2025-01-02"),
    "time": (datetime(2025, 1, 2, 3, tzinfo=UTC), "2025-01-02T03:00:00+00:00"),
    "bytes": (b"\xff", "b'\\xff'"),
    "huge": (10**30, "1" + "0" * 30),
    "complex": (1j, "1j"),
}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("value", ODD)
def test_what_is_neither_text_nor_number_nor_time_becomes_text(value, suffix, tmp_path):
    given, expected = ODD[value]
    frame = pd.DataFrame({"device_name": pd.Series([given, None, "text"], dtype=object)})
    path = kd.export.write(frame, tmp_path / f"a{suffix}")
    first, missing, second = read_names(path)
    assert (first, second) == (expected, "text")
    assert missing in {None, ""} or pd.isna(missing)


KINDS = {
    "numbers as objects": (pd.Series([1, 2.5], dtype=object), [1, 2.5]),
    "short floats": (pd.Series([1.5, 2.5], dtype="float16"), [1.5, 2.5]),
    "categories of numbers": (pd.Series([1, 2], dtype="category"), [1, 2]),
    "integers that may be missing": (pd.Series(pd.array([1, 2], "Int64")), [1, 2]),
    "truth as objects": (pd.Series([True, False], dtype=object), [True, False]),
    "truth that may be missing": (pd.Series(pd.array([True, False], "boolean")), [True, False]),
    "intervals": (pd.Series([pd.Interval(0, 1), pd.Interval(1, 2)]), ["(0, 1]", "(1, 2]"]),
    "periods": (pd.Series(pd.period_range("2025-01", periods=2, freq="M")), ["2025-01", "2025-02"]),
    "bins": (pd.cut(pd.Series([1, 2]), [0, 1, 2]), ["(0, 1]", "(1, 2]"]),
    "fractions": (pd.Series([Fraction(1, 3), Fraction(1, 2)]), ["1/3", "1/2"]),
    "nested values of Arrow": (
        pd.Series([[1], [2, 3]], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
        ["[1]", "[2, 3]"],
    ),
    "complex numbers": (pd.Series([1 + 2j, 3]), ["(1+2j)", "(3+0j)"]),
}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_every_kind_are_written_as_what_they_are(kind, suffix, tmp_path):
    series, expected = KINDS[kind]
    path = kd.export.write(pd.DataFrame({"x": series}), tmp_path / f"a{suffix}")
    assert list(read_any(path)["x"]) == expected


@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".jsonl"])
def test_durations_are_numbers_of_seconds(suffix, tmp_path):
    frame = pd.DataFrame({"open": pd.to_timedelta(["90s", None, "-1.5s"])})
    path = kd.export.write(frame, tmp_path / f"a{suffix}")
    assert read_any(path)["open"].astype("float64").fillna(0).tolist() == [90, 0, -1.5]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_time_in_another_zone_keeps_its_instant(suffix, tmp_path):
    at = pd.Series(pd.to_datetime(["2025-01-01T08:00+08:00"])).dt.tz_convert("Asia/Shanghai")
    path = kd.export.write(pd.DataFrame({"at": at}), tmp_path / f"a{suffix}")
    found = read_any(path).iloc[0, 0]
    assert pd.to_datetime(found, utc=True) == pd.Timestamp("2025-01-01T00:00Z")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_time_without_a_zone_gets_none(suffix, tmp_path):
    frame = pd.DataFrame({"at": pd.to_datetime(["2025-01-01T08:00"])})
    path = kd.export.write(frame, tmp_path / f"a{suffix}", tz="Asia/Shanghai")
    assert pd.Timestamp(read_any(path)["at"][0]) == pd.Timestamp("2025-01-01T08:00")


@pytest.mark.parametrize("name", ["a.CSV", "a.Xlsx", "a.PARQUET", "a.JsonL"])
def test_the_ending_may_be_in_capitals_and_the_path_text(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(kd.export.write(named("phone"), name)) == name
    assert (tmp_path / name).is_file()


@pytest.mark.parametrize("name", ["a", "a.xls", "a.json", "a.csv.gz", ".csv", ""])
def test_another_ending_is_refused_with_the_choice(name, tmp_path):
    with pytest.raises(kd.InvalidParameterError, match=r"\.csv, \.xlsx, \.parquet or \.jsonl"):
        kd.export.write(named("phone"), f"{tmp_path}/{name}")


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("nowhere/a.csv", "There is no folder .*nowhere: create it"),
        ("folder.csv", "is a folder: name a file"),
        ("file.csv/a.csv", "There is no folder"),
        ("a\0.csv", "no path to write to|no folder|cannot be written"),
        (f"{'a' * 300}.csv", "no path to write to|cannot be written"),
        (None, "the path of a file, such as"),
        (b"a.csv", "the path of a file, such as"),
    ],
)
def test_a_path_that_cannot_be_written_to_is_refused_with_advice(
    path, advice, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file.csv").touch()
    with pytest.raises(kd.InvalidParameterError, match=advice):
        kd.export.write(named("phone"), path)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["file.csv", "folder.csv"]


@pytest.mark.parametrize("made", ["two\nlines", "", 7])
def test_made_takes_one_line(made, tmp_path):
    with pytest.raises(kd.InvalidParameterError, match="made= takes the one line"):
        kd.export.write(named("phone"), tmp_path / "a.xlsx", made=made)


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_existing_file_is_replaced(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_text("old")
    link = tmp_path / f"link{suffix}"
    link.symlink_to(path)
    kd.export.write(named("phone"), link)
    assert read_names(path) == ["phone"]
    assert link.is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_write_that_fails_leaves_what_was_there(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(kd.InvalidParameterError, match=r"cannot be written \(File too large\)"):
            kd.export.write(named(*map(str, range(100_000))), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_workbook_that_the_disk_has_no_place_for_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.xlsx"
    path.write_text("old")

    def is_full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "write", is_full)
    with pytest.raises(kd.InvalidParameterError, match="No space left on device"):
        kd.export.write(named("phone"), path)
    assert path.read_text() == "old"


def test_a_workbook_over_4_gb_is_refused_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1_000)
    with pytest.raises(kd.InvalidParameterError, match=r"over 4 GB: write to a \.parquet"):
        kd.export.write(named("phone"), tmp_path / "a.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_facts_that_are_not_of_this_package_do_no_harm(tmp_path):
    frame = named("phone")
    frame.attrs["koodrive"] = "something"
    assert "made" not in facts(kd.export.write(frame, tmp_path / "a.xlsx"))
    frame.attrs["koodrive"] = {"ledger_id": "of another process", "note": "\ud800", "n": {1: 2}}
    told = facts(kd.export.write(frame, tmp_path / "a.xlsx", made="'\ud800'"))
    assert (told["made by"], told["note"], told["n"]) == ("'\\ud800'", "\\ud800", '{"1": 2}')
    assert told["fetched"] == "The frame no longer says how it was fetched."
    assert kd.export.write(frame, tmp_path / "a.parquet", made="'\ud800'").is_file()


def test_without_the_library_a_workbook_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(kd.ConfigurationError, match=r"pip install 'koodrive_nb\[report\]'"):
        kd.export.write(named("phone"), tmp_path / "a.xlsx")
    assert kd.export.write(named("phone"), tmp_path / "a.csv").is_file()
