import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import koodrive_nb as kd
from koodrive_nb.analysis import effects

WINDOW = ("2025-12-08", "2025-12-15")


def crowd(make, parts):
    """Make backups: (day, system, how many, how many of them stuck), each of its own device."""
    frames = []
    base = make({"end_time": "2025-12-01T00:01Z"})
    for number, (day, system, n, stuck) in enumerate(parts):
        start = pd.Timestamp(f"2025-12-{day:02}T12:00Z")
        part = base.loc[[0] * n].assign(create_time=start, end_time=start + pd.Timedelta("60s"))
        part["device_id"] = [f"{number:09}{place:010}" for place in range(n)]
        part["device_os"] = system
        part["duration_s"] = 60.0
        is_stuck = [place < stuck for place in range(n)]
        part.loc[is_stuck, ["status_code", "end_time", "duration_s"]] = [0, pd.NaT, np.nan]
        frames.append(part)
    whole = pd.concat(frames, ignore_index=True).astype(base.dtypes)
    ids = [f"{place:019}" for place in range(len(whole))]
    return whole.assign(record_id=ids).astype(base.dtypes)


def both(*counts):
    days = [(2, "ios"), (2, "android"), (9, "ios"), (9, "android")]
    return [(*each, *count) for each, count in zip(days, counts, strict=True)]


def explain(records, **options):
    return kd.analysis.explain_change(records, **({"window": WINDOW, "by": "os_family"} | options))


def said(table):
    return table.attrs["koodrive"]["verdict"]


def test_the_segment_that_went_down_is_named_with_its_shares(make):
    table = explain(
        crowd(
            make,
            [
                (2, "ios", 300, 3),
                (2, "android", 900, 9),
                (9, "ios", 300, 60),
                (9, "android", 900, 9),
            ],
        )
    ).set_index("segment")
    assert list(table.index[table["is_driver"]]) == ["ios"]
    row = table.loc["ios"]
    assert (row["n_previous"], row["n"]) == (300, 300)
    assert row["total_pp"] == pytest.approx(100 * 0.25 * (0.80 - 0.99))
    assert row["mix_effect_pp"] == 0
    assert said(table) == (
        "The settled share fell by 4.75 percentage points, from 99.0 % of 1,200 to 94.2 % of 1,200 "
        "backups: associated with os family ios, -4.75 percentage points (its share went from "
        "99.0 % to 80.0 %)"
    )
    assert "cause" not in said(table)


def test_a_shift_to_what_always_went_worse_is_told_as_such(make):
    table = explain(
        crowd(
            make,
            [
                (2, "ios", 300, 60),
                (2, "android", 2700, 27),
                (9, "ios", 1500, 300),
                (9, "android", 1500, 15),
            ],
        )
    ).set_index("segment")
    assert table["rate_effect_pp"].abs().max() < 1e-9
    assert table.loc["ios", "is_driver"]
    assert "its part of all backups went from 10.0 % to 50.0 %" in said(table)


def test_what_befell_everybody_has_no_driver(make):
    table = explain(
        crowd(
            make,
            [
                (2, "ios", 300, 3),
                (2, "android", 2700, 27),
                (9, "ios", 300, 30),
                (9, "android", 2700, 270),
            ],
        )
    )
    assert not table["is_driver"].any()
    assert said(table).endswith("no clear driver, since no segment stands out from the others")


def test_what_chance_alone_does_has_no_driver(make):
    table = explain(
        crowd(
            make,
            [
                (2, "ios", 300, 3),
                (2, "android", 900, 9),
                (9, "ios", 300, 5),
                (9, "android", 900, 9),
            ],
        )
    )
    assert not table["is_driver"].any()
    assert said(table).endswith("no more than chance, and no clear driver")


def test_one_device_that_fails_all_the_time_is_no_driver(make):
    records = crowd(
        make,
        both((300, 3), (900, 9), (300, 60), (900, 9)),
    )
    is_bad = records["status_code"].eq(0) & (
        records["create_time"] > pd.Timestamp("2025-12-08T00Z")
    )
    records.loc[is_bad & (records["device_os"] == "ios"), "device_id"] = "7" * 19
    table = explain(records)
    assert not table["is_driver"].any()


def test_small_segments_are_pooled_and_never_named(make):
    parts = [
        (2, "android", 900, 9),
        (9, "android", 900, 9),
        (2, "ios", 99, 0),
        (9, "ios", 300, 150),
    ]
    parts += [(9, "windows", 30, 0)]
    table = explain(crowd(make, parts)).set_index("segment")
    assert set(table.index) == {"android", effects.OTHER}
    assert (table.loc[effects.OTHER, "n_previous"], table.loc[effects.OTHER, "n"]) == (99, 330)
    assert not table["is_driver"].any()


def test_where_no_segment_can_be_tested_the_verdict_says_so_and_not_that_none_stands_out(make):
    parts = both((300, 3), (900, 9), (300, 60), (900, 9))
    records = crowd(make, parts)
    table = explain(records, by="device_id")
    about = table.attrs["koodrive"]
    assert about["n_segments"] == 0
    assert said(table).endswith(
        ": not enough data to name a driver, since segments of device id with 100 backups in both "
        "windows, and others beside them, hold none of the backups"
    )
    both_by = explain(records, by=["os_family", "device_id"])
    assert both_by.loc[both_by["is_driver"], "segment"].tolist() == ["ios"]
    assert said(both_by).endswith("; not enough data of device id")
    # All that is left is of one system: there is nothing to tell it from.
    alone = explain(records[records["device_os"] == "ios"])
    assert alone["reason"].tolist() == ["not tested: all backups are in it"]
    assert alone.attrs["koodrive"]["n_segments"] == 0
    assert "not enough data to name a driver, since segments of os family" in said(alone)


def test_where_those_without_a_name_alone_can_be_tested_there_is_not_enough_data_either(make):
    records = crowd(make, both((300, 3), (900, 9), (300, 60), (900, 9)))
    records.loc[records.groupby("create_time").cumcount() % 4 == 0, "device_id"] = None
    table = explain(records, by="device_id")
    assert table["segment"].tolist() == [effects.OTHER, "(missing)"]
    assert table.attrs["koodrive"]["n_segments"] == 1
    assert "not enough data to name a driver, since" in said(table)
    assert "hold only 25.0 % of the backups" in said(table)


def test_what_is_no_more_than_chance_and_cannot_be_tested_says_both(make):
    table = explain(crowd(make, both((300, 3), (900, 9), (300, 5), (900, 9))), by="device_id")
    assert ": no more than chance, and not enough data to name a driver, since" in said(table)


def test_a_probability_stands_where_it_was_tested_and_every_other_segment_says_why_not(make):
    # Of three systems one fails; another lost backups, all of them good ones.
    parts = [
        *((2, "ios", 300, 3), (2, "android", 900, 9), (2, "windows", 50, 0)),
        *((9, "ios", 300, 60), (9, "android", 900, 9), (9, "windows", 50, 0)),
    ]
    table = explain(crowd(make, parts)).set_index("segment")
    assert table.loc["ios", "p_value"] < 0.05
    assert pd.isna(table.loc["ios", "reason"])
    assert table.loc["android", "reason"] == "not tested: less than a quarter of the change"
    assert table.loc["android", ["z", "p_value"]].isna().all()
    other = table.loc[effects.OTHER]
    assert other["reason"].startswith("not tested: made of segments with fewer than 100 backups")
    assert other[["z", "p_value"]].isna().all()
    assert (table["reason"].isna() == table["is_driver"]).all()


def test_a_probability_is_below_the_limit_where_there_is_a_driver_and_nowhere_else(make):
    for stuck, is_driver in ((60, True), (24, False)):
        table = explain(crowd(make, both((300, 3), (900, 9), (300, stuck), (900, 45))))
        row = table.set_index("segment").loc["ios"]
        assert row["is_driver"] == is_driver == (row["p_value"] < 0.05)
        assert pd.isna(row["reason"]) == is_driver
        if not is_driver:
            assert row["p_value"] >= 0.05
            assert row["reason"] == "within chance: p is not below 0.05"


def test_where_the_change_is_chance_no_segment_is_tested(make):
    table = explain(crowd(make, both((300, 3), (900, 9), (300, 5), (900, 9))))
    assert table[["z", "p_value"]].isna().all(axis=None)
    assert (
        table["reason"]
        .str.startswith("not tested: the change itself is no more than chance (p = 0.")
        .all()
    )


def test_a_probability_is_that_of_all_tests_together(make):
    counts = [(300, 3), (300, 3), (300, 3), (300, 60), (300, 9), (300, 3)]
    systems = ("ios", "android", "windows")
    days = [(day, system) for day in (2, 9) for system in systems]
    parts = [(*each, *count) for each, count in zip(days, counts, strict=True)]
    table = explain(crowd(make, parts))
    table = table[table["z"].notna()]
    assert table["segment"].tolist() == ["ios"]
    alone = effects.probability(table["z"].to_numpy(dtype="float64"))
    assert table.attrs["koodrive"]["n_segments"] == 3
    assert table["p_value"].tolist() == pytest.approx(np.minimum(3 * alone, 1).tolist())


@pytest.mark.parametrize("stuck", [9, 10])
def test_a_share_that_did_not_move_did_not_change(make, stuck):
    table = explain(crowd(make, both((30000, 300), (90000, 9), (30000, 300), (90000, stuck))))
    assert said(table).startswith("The settled share did not change, with 99.7 % of 120,000 before")
    assert "0.00" not in said(table)


def test_a_window_that_was_not_over_at_the_fetch_says_so(make):
    records = crowd(make, [(9, "ios", 300, 3), (15, "ios", 300, 3)])
    table = explain(records, window="2025-W51", previous=WINDOW, stuck_after="6h")
    assert table.attrs["koodrive"]["seen_until"] == "2025-12-17T08:30:00+00:00"
    assert said(table).endswith("; the window was not over at the fetch")
    over = explain(records, window=("2025-12-15", "2025-12-17"), stuck_after="6h")
    assert over.attrs["koodrive"]["seen_until"] is None
    assert "not over" not in said(over)


def test_a_classified_frame_may_be_filtered_to_devices_modules_or_systems():
    records = kd.analysis.classify(kd.sandbox.frames("small").records)
    by = ["os_family"]
    part = records[records["os_family"] == "android"]
    table = explain(part, by=by, window="2025-W50", tz="Asia/Shanghai")
    whole = explain(records, by=by, window="2025-W50", tz="Asia/Shanghai").set_index("segment")
    names = ["n_previous", "n", "settled_share_previous", "settled_share"]
    assert table.set_index("segment").loc["android", names].tolist() == pytest.approx(
        whole.loc["android", names].tolist()
    )


@pytest.mark.parametrize("left", ["completed", "to_be_deleted", None])
def test_it_tells_how_many_records_wait_for_deletion_since_none_may_be_a_filter(left):
    fleet = kd.analysis.classify(kd.sandbox.frames("small").records)
    part = fleet[fleet["state"] == left] if left else fleet.head(0)
    table = explain(part, window="2025-W50")
    n = (part["state"] == "to_be_deleted").sum()
    assert table.attrs["koodrive"]["n_to_be_deleted"] == n
    assert bool(n) == (left == "to_be_deleted")


def test_less_than_100_backups_tell_nothing(make):
    table = explain(crowd(make, [(2, "ios", 99, 0), (9, "ios", 500, 250)]))
    assert len(table) == 0
    assert said(table).startswith(
        "not enough data: 99 backups came to an end in the earlier window"
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 30),
            st.sampled_from("abcde"),
            *(st.tuples(st.integers(0, 150), st.floats(0, 1)) for _ in range(2)),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_the_effects_add_up_exactly_to_the_change(drawn):
    rows = [
        (cluster, segment, n0, n1, round(n0 * share0), round(n1 * share1))
        for cluster, segment, (n0, share0), (n1, share1) in drawn
    ]
    rows = [row for row in rows if row[2] + row[3]] + [(0, "a", 1, 1, 1, 0)]
    cells = pd.DataFrame(
        rows, columns=["cluster", "segment", "n_previous", "n", "hits_previous", "hits"]
    )
    change = cells["hits"].sum() / cells["n"].sum()
    change -= cells["hits_previous"].sum() / cells["n_previous"].sum()
    for part in (cells, effects.pooled(cells)):
        table = effects.split(part)
        assert table["total_pp"].sum() == pytest.approx(100 * change, abs=1e-9)
        assert (table["rate_effect_pp"] + table["mix_effect_pp"]).tolist() == pytest.approx(
            table["total_pp"].tolist(), abs=1e-12
        )
        assert table["z"].notna().all()
        assert table["weight"].sum() == pytest.approx(1)


def test_where_devices_are_independent_the_change_is_tested_as_two_proportions():
    n0, n1, hits0, hits1 = 1500, 1300, 1470, 1248
    rows = [
        (place, "a", *each)
        for place, each in enumerate(
            [(1, 0, place < hits0, 0) for place in range(n0)]
            + [(0, 1, 0, place < hits1) for place in range(n1)]
        )
    ]
    cells = pd.DataFrame(
        rows, columns=["cluster", "segment", "n_previous", "n", "hits_previous", "hits"]
    ).astype({"hits_previous": int, "hits": int})
    # Pearson's test takes the share of both windows together, and this one the mean of the two.
    counts = [[hits1, n1 - hits1], [hits0, n0 - hits0]]
    expected = stats.chi2_contingency(counts, correction=False)
    z = effects.distance(cells)
    assert z == pytest.approx(-np.sqrt(expected.statistic), rel=0.03)
    assert effects.probability([z])[0] == pytest.approx(2 * stats.norm.sf(abs(z)))


def test_the_deviation_of_an_effect_is_the_one_that_drawing_devices_anew_gives():
    draw = np.random.default_rng(5)
    devices, times = 400, 8
    size = devices * times
    cells = pd.DataFrame(
        {
            "cluster": np.repeat(np.arange(devices), times),
            "segment": np.where(np.repeat(draw.random(devices), times) < 0.3, "a", "b"),
            "n_previous": draw.poisson(2, size),
            "n": draw.poisson(3, size),
        }
    )
    risk = np.repeat(draw.gamma(0.3, 0.2, devices).clip(0, 0.9), times)
    cells["hits_previous"] = draw.binomial(cells["n_previous"], 1 - risk)
    cells["hits"] = draw.binomial(cells["n"], 1 - (2 * risk).clip(0, 0.95))

    def excess(part):
        table = effects.split(part).set_index("segment")
        weight = table[["weight", "weight_previous"]].mean(axis=1)
        return (table["total_pp"] - weight * table["total_pp"].sum())["a"]

    again = []
    for _ in range(300):
        drawn = np.bincount(draw.integers(0, devices, devices), minlength=devices)
        again.append(
            excess(
                cells.assign(
                    **{
                        name: cells[name] * np.repeat(drawn, times)
                        for name in ("n_previous", "n", "hits_previous", "hits")
                    }
                )
            )
        )
    z = effects.split(cells).set_index("segment").loc["a", "z"]
    assert excess(cells) / z == pytest.approx(np.std(again), rel=0.15)


def test_what_is_too_young_is_in_neither_window_and_told(make):
    records = crowd(make, [(2, "ios", 300, 3), (16, "ios", 300, 0)])
    window = ("2025-12-10", "2025-12-17")
    table = explain(
        records, window=window, previous=("2025-12-01", "2025-12-08"), stuck_after="24h"
    )
    assert said(table).startswith("not enough data")
    about = table.attrs["koodrive"]
    assert (about["n_young"], about["n_open"], about["n_purged"]) == (300, 0, 0)
    table = explain(records, window=window, previous=("2025-12-01", "2025-12-08"), stuck_after="6h")
    assert table["n"].sum() == 300


def test_what_was_purged_before_does_not_make_the_earlier_window_worse(make):
    usual = crowd(make, [(2, "android", 900, 9), (9, "android", 900, 9)])
    # Of these devices only what got stuck is left of the earlier window.
    cut = crowd(make, [(2, "android", 60, 60), (9, "android", 60, 0)])
    cut["user_id"] = "cut"
    cut["device_id"] = [f"{place % 60:019}" for place in range(120)]
    waiting = cut.tail(60).assign(status_code=2)
    waiting["create_time"] -= pd.Timedelta("1h")
    waiting["record_id"] = [f"w{place}" for place in range(60)]
    records = pd.concat([usual, cut, waiting.astype(cut.dtypes)], ignore_index=True)
    table = explain(records)
    assert (table["n_previous"].sum(), table["n"].sum()) == (900, 900)
    assert table.attrs["koodrive"]["n_purged"] == 180
    assert "no more than chance" in said(table)


@pytest.mark.parametrize("tz", ["Asia/Shanghai", "Europe/Berlin"])
def test_windows_are_local_and_the_one_before_is_as_long_by_the_clock(records, tz):
    table = kd.analysis.explain_change(records, window="2025-W44", tz=tz)
    about = table.attrs["koodrive"]
    edges = [
        pd.Timestamp(about[name]).tz_convert(tz)
        for name in ("previous_start", "previous_end", "since", "until")
    ]
    assert [f"{edge:%m-%d %H}" for edge in edges] == [
        "10-20 00",
        "10-27 00",
        "10-27 00",
        "11-03 00",
    ]


def test_as_many_records_are_behind_a_segment_as_it_counts(make):
    parts = [(2, "android", 150, 9), (9, "android", 130, 9), (2, "ios", 50, 0), (9, "ios", 70, 15)]
    records = crowd(make, parts)
    table = explain(records, by=["device_os", "module"])
    for position in range(len(table)):
        behind = kd.analysis.rows(records, table, position)
        assert len(behind) == table["n"].iloc[position] > 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"window": "2025-W99"}, "a week that there is not"),
        ({"window": "2026-W10"}, "window begins after the fetch"),
        ({"previous": ("2025-12-01", "2025-12-10")}, "previous= must be over"),
        ({"by": []}, "by= takes"),
        ({"by": "segment"}, "by= takes"),
        ({"by": "os_familly"}, "no column of the records: did you mean 'os_family'"),
        ({"by": "os"}, "did you mean 'os_family'"),
        ({"by": "colour"}, "It takes os_family, .*module.* or a column that you add"),
    ],
    ids=str,
)
def test_what_it_does_not_take_is_refused_with_what_it_does(records, options, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        explain(records, **options)


def test_of_a_frame_that_is_none_of_records_the_frame_is_to_blame(records):
    with pytest.raises(kd.InvalidParameterError, match=r"lacks the column.*module"):
        kd.analysis.explain_change(records.drop(columns="module"), window=WINDOW)


def explained(records, **options):
    return kd.analysis.explain_change(records, window="2025-W50", **options)


def weeks_of(make, devices, **more):
    """Make two weeks of records: for each device how many (stuck, completed) in either."""
    rows = []
    for device, (before, now) in devices.items():
        for day, (n_stuck, n_good) in (("2025-12-03", before), ("2025-12-10", now)):
            for number in range(n_stuck + n_good):
                created = pd.Timestamp(f"{day}T00:00Z") + pd.Timedelta(minutes=number)
                row = {"create_time": created, "device_id": device, "status_code": 0}
                if number >= n_stuck:
                    row |= {"status_code": 1, "end_time": created + pd.Timedelta("1min")}
                rows.append(row | {name: of(device) for name, of in more.items()})
    return make(*rows)


def test_a_total_outage_is_no_chance(make):
    records = weeks_of(make, {str(n): ((0, 1), (1, 0)) for n in range(300)})
    about = explained(records, stuck_after="1h").attrs["koodrive"]
    assert about["change_p_value"] < 1e-9
    assert "no more than chance" not in about["verdict"]


def test_of_few_devices_little_is_sure(make):
    draw = np.random.default_rng(5)
    found = []
    for _ in range(40):
        share = draw.beta(2, 18, size=(2, 3))
        stuck = draw.binomial(60, share)
        devices = {
            str(n): ((stuck[0, n], 60 - stuck[0, n]), (stuck[1, n], 60 - stuck[1, n]))
            for n in range(3)
        }
        about = explained(weeks_of(make, devices), stuck_after="1h").attrs["koodrive"]
        found.append(about["change_p_value"])
    # Nothing changed: of forty, two are below by chance.
    assert sum(np.array(found) < 0.05) <= 4


def test_one_device_that_outweighs_all_others_is_told_of(make):
    devices = {str(n): ((1, 9), (1, 9)) for n in range(40)}
    calm = explained(weeks_of(make, devices), stuck_after="1h").attrs["koodrive"]["verdict"]
    assert "one device" not in calm
    devices["loud"] = ((0, 0), (300, 0))
    verdict = explained(weeks_of(make, devices), stuck_after="1h").attrs["koodrive"]["verdict"]
    assert "; one device alone moves the share by -3" in verdict


def test_a_segment_made_by_a_few_devices_is_no_driver(make):
    devices = {str(n): ((1, 19), (1, 19)) for n in range(100)}
    devices |= {f"odd{n}": ((0, 60), (60, 0)) for n in range(6)}
    records = weeks_of(
        make, devices, device_os=lambda name: "FooOS" if name.startswith("odd") else "android"
    )
    table = explained(records, by="device_os", stuck_after="1h")
    row = table.set_index("segment").loc["FooOS"]
    assert not row["is_driver"]
    assert row["reason"] == "not tested: a few devices make most of it"


@pytest.mark.parametrize("name", ["other (small)", "(missing)"])
def test_a_segment_that_calls_itself_as_ours_are_called_is_told_from_them(make, name):
    devices = {str(n): ((1, 19), (1, 19)) for n in range(100)}
    devices |= {f"odd{n}": ((0, 10), (10, 0)) for n in range(30)}
    records = weeks_of(
        make, devices, device_os=lambda each: name if each.startswith("odd") else "android"
    )
    table = explained(records, by="device_os", stuck_after="1h")
    place = table["segment"].tolist().index(f'"{name}"')
    assert table["is_driver"].iloc[place]
    assert len(kd.analysis.rows(records, table, place)) == 300


def test_words_of_the_service_in_a_verdict_are_one_quoted_line(make):
    name = "# x\n\x1b[31m; no clear driver. " + "y" * 500
    devices = {str(n): ((1, 19), (1, 19)) for n in range(100)}
    devices |= {f"odd{n}": ((0, 10), (10, 0)) for n in range(30)}
    records = weeks_of(
        make, devices, device_os=lambda each: name if each.startswith("odd") else "android"
    )
    verdict = explained(records, by="device_os", stuck_after="1h").attrs["koodrive"]["verdict"]
    assert "device os “# x [31m; no clear driver. y" in verdict
    assert "\n" not in verdict
    assert "\x1b" not in verdict
    assert len(verdict) < 500


def test_where_the_earlier_window_may_be_purged_no_driver_is_named():
    records = kd.sandbox.frames("medium", 0).records
    table = kd.analysis.explain_change(records, window="2025-W48")
    assert table.attrs["koodrive"]["change_p_value"] < 0.001
    assert (
        "no driver is named, since records of the earlier window may be"
        in (table.attrs["koodrive"]["verdict"])
    )
    assert not table["is_driver"].any()
    tested = ~table["segment"].isin([effects.OTHER])
    assert set(table.loc[tested, "reason"]) == {
        "not tested: records of the earlier window may be purged"
    }


@pytest.mark.parametrize("engine", ["polars", "duckdb"], indirect=True)
def test_a_column_of_truths_is_spelled_alike_on_every_engine(make, engine):
    devices = {str(n): ((1, 19), (1, 19)) for n in range(20)}
    records = weeks_of(make, devices)
    records = records.assign(is_paying=records["device_id"].astype("int64") % 2 == 0)
    table = explained(records, by="is_paying", stuck_after="1h")
    assert set(table["segment"]) == {"true", "false"}
    pd.testing.assert_frame_equal(
        explained(engine(records), by="is_paying", stuck_after="1h"), table
    )
    assert len(kd.analysis.rows(engine(records), table, 0)) == table["n"].iloc[0]
