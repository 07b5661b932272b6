import pandas as pd
import polars as pl
import pytest

import koodrive_nb as kd

COUNTING = [
    ("status_breakdown", {}),
    ("status_breakdown", {"by": ["state", "device_os"]}),
    ("status_breakdown", {"as_of": "2025-12-01T00:00Z", "stuck_after": {"album": "3h"}}),
    ("protection_status", {}),
    ("protection_status", {"per": "module"}),
    ("protection_status", {"per": "user", "as_of": "2025-12-01T00:00Z"}),
    ("adherence", {"per": "day", "tz": "Asia/Shanghai"}),
    ("adherence", {"per": "device", "tz": "Europe/Berlin"}),
    ("exposure", {}),
    ("exposure", {"by": "os_family", "kind": "curve"}),
    ("exposure", {"per": "module", "rpo": "3D"}),
]
NEED_DEVICES = {"protection_status", "adherence", "exposure"}


def made(name, records, devices, **options):
    given = (records, devices) if name in NEED_DEVICES else (records,)
    return getattr(kd.analysis, name)(*given, **options)


def places(table):
    step = max(1, len(table) // 12)
    return range(0, len(table), step)


@pytest.mark.parametrize(("name", "options"), COUNTING)
def test_as_many_records_are_behind_a_row_as_it_counts(dirty, name, options):
    records, devices = dirty(4)
    table = made(name, records, devices, **options)
    assert table["n"].sum() > 0
    for position in places(table):
        behind = kd.analysis.rows(records, table, position, devices=devices)
        assert len(behind) == table["n"].iloc[position], (position, table.iloc[position])


def test_the_rows_of_a_partition_are_the_whole(dirty):
    records, _ = dirty(5)
    table = kd.analysis.status_breakdown(records, by=["module", "state"])
    parts = [kd.analysis.rows(records, table, position) for position in range(len(table))]
    assert sorted(pd.concat(parts)["record_id"]) == sorted(records["record_id"])


def test_records_come_back_classified_in_their_own_kind_of_frame(dirty, engine):
    records, devices = dirty(6)
    table = kd.analysis.protection_status(records, devices)
    expected = kd.analysis.rows(records, table, 3)
    moved = engine(records)
    behind = kd.analysis.rows(moved, table, 3)
    assert type(behind) is type(kd.analysis.classify(moved))
    again = kd.analysis.rows(kd.analysis.classify(records), table, 3)
    pd.testing.assert_frame_equal(again, expected)
    assert next(iter(expected["state"].cat.categories)) == "completed"


def test_the_record_of_a_mark_is_that_record_and_a_gap_has_none(dirty):
    records, devices = dirty(7)
    table = kd.analysis.timeline(records, devices=devices)
    for position in places(table):
        behind = kd.analysis.rows(records, table, position)
        mark = table.iloc[position]
        found = list(behind["record_id"])
        assert found == ([mark["record_id"]] if mark["kind"] == "backup" else [])
    flow = kd.analysis.timeline(records, form="flow")
    with pytest.raises(kd.InvalidParameterError, match="counts over time"):
        kd.analysis.rows(records, flow, 0)


@pytest.mark.parametrize("position", [-1, -3])
def test_positions_count_from_the_end_too(dirty, position):
    records, _ = dirty(8)
    table = kd.analysis.status_breakdown(records)
    behind = kd.analysis.rows(records, table, position)
    assert len(behind) == table["n"].iloc[position]


def test_what_cannot_be_told_is_refused_with_why(dirty):
    records, _ = dirty(9)
    table = kd.analysis.status_breakdown(records)
    for spoilt in (pd.DataFrame(table.to_dict("list")), pl.from_pandas(table), [1], None):
        with pytest.raises(kd.InvalidParameterError, match="still says how"):
            kd.analysis.rows(records, spoilt, 0)
    for position in (len(table), -len(table) - 1, "album", True, None):
        with pytest.raises(kd.InvalidParameterError, match="pass the position of one"):
            kd.analysis.rows(records, table, position)
