import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import koodrive_nb as kd
from koodrive_nb.analysis import day_judgements

TZ = "Asia/Shanghai"
NOW = pd.Timestamp("2025-12-17T08:30Z")


def judged(records, metric="created", **options):
    return kd.analysis.anomalies(records, metric, **options)


def daily(make, counts, *, until="2025-12-16", zone="UTC", hour=12, **more):
    """Make so many backups on each of the local days up to one, each of a device of its own."""
    last = pd.Timestamp(until)
    days = [last - pd.Timedelta(days=place) for place in reversed(range(len(counts)))]
    noons = pd.DatetimeIndex([day + pd.Timedelta(hours=hour) for day in days])
    at = noons.tz_localize(zone).tz_convert("UTC").as_unit("ms").repeat(counts)
    device = [f"{number:019}" for count in counts for number in range(count)]
    frame = make({"end_time": "2025-12-16T00:00Z"} | more)
    kinds = frame.dtypes
    frame = frame.loc[[0] * len(at)].reset_index(drop=True).assign(create_time=at, device_id=device)
    if frame["end_time"].notna().all():
        frame = frame.assign(end_time=at + pd.Timedelta("60s"), duration_s=60.0)
    return frame.assign(record_id=[f"{number:019}" for number in range(len(at))]).astype(kinds)


def fleet_of_few():
    return kd.analysis.classify(kd.sandbox.frames("small").records)


def on(table, day):
    return table[table["day_start"].dt.tz_convert("UTC") == pd.Timestamp(day, tz="UTC")].iloc[0]


def test_a_day_on_which_nothing_arrived_has_a_row_and_is_unusually_low(make):
    table = judged(daily(make, [20] * 49 + [0, 20]))
    row = on(table, "2025-12-15")
    assert (row["value"], row["n"], row["usual"], row["ratio"]) == (0, 0, 20, 0)
    assert row["verdict"] == "unusually_low"
    assert row["message"] == (
        "Mon 15 Dec: 0 backups created, usually 20, usual from 7 up to 41 (last 6 Mondays)"
    )
    assert on(table, "2025-12-16")["verdict"] == "usual"


def test_a_day_is_held_against_its_own_weekday(make):
    # Nothing arrives on Sundays, ever.
    counts = [
        0 if (pd.Timestamp("2025-12-16") - pd.Timedelta(days=ago)).day_of_week == 6 else 30
        for ago in range(69, -1, -1)
    ]
    table = judged(daily(make, counts), since="14D")
    over = table[table["reason"].isna()]
    assert len(over) == 14
    assert set(over["verdict"]) == {"usual"}


def test_as_many_again_is_unusually_high_and_the_message_says_how_many_times(make):
    row = on(judged(daily(make, [20] * 49 + [60])), "2025-12-16")
    assert row["verdict"] == "unusually_high"
    assert row["message"] == (
        "Tue 16 Dec: 60 backups created, usually 20, usual from 7 up to 41 (last 6 Tuesdays), "
        "3 times as many"
    )
    assert row["value"] > row["usual_hi"]
    assert row["z"] > 3.5


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_flat_small_series_raises_no_alarm(make, count):
    # Its MAD is zero; three are expected, and none is no wonder.
    table = judged(daily(make, [3] * 49 + [count]), since="1D")
    assert on(table, "2025-12-16")["verdict"] == "usual"


def test_what_is_sure_and_small_is_no_alarm(make):
    row = on(judged(daily(make, [200] * 49 + [290]), since="1D"), "2025-12-16")
    assert row["z"] > 3.5
    assert row["verdict"] == "usual"


def test_one_week_like_it_before_hides_nothing(make):
    counts = [30] * 50
    counts[-1] = counts[-8] = 0
    table = judged(daily(make, counts))
    assert on(table, "2025-12-16")["verdict"] == "unusually_low"
    assert on(table, "2025-12-09")["verdict"] == "unusually_low"


def test_without_three_such_weekdays_a_day_is_not_judged_and_says_why(make):
    table = judged(daily(make, [20] * 22), since=None)
    assert len(table) == 23
    assert on(table, "2025-12-15")["reason"] == "fewer than 3 earlier Mondays to compare with"
    # The first day is cut by its first record, and compares with none.
    assert on(table, "2025-12-16")["n_baseline"] == 2
    assert set(table["verdict"]) == {"not_judged"}
    assert on(table, "2025-12-15")["message"] == (
        "Mon 15 Dec: not judged, fewer than 3 earlier Mondays to compare with"
    )


def test_a_day_that_now_or_the_window_cuts_is_not_judged(make):
    table = judged(daily(make, [20] * 50))
    row = on(table, "2025-12-17")
    assert (row["verdict"], row["reason"]) == ("not_judged", "the day is not over")
    cut = judged(daily(make, [20] * 50), until="2025-12-15T12:00Z")
    assert on(cut, "2025-12-15")["reason"] == "the day is not over"
    assert on(cut, "2025-12-14")["verdict"] == "usual"


def test_a_day_that_some_users_were_fetched_before_is_not_over(make):
    records = daily(make, [20] * 50)
    early = make(
        {"create_time": "2025-12-01T00:00Z", "user_id": "early", "fetched_at": "2025-12-15T12:00Z"}
    )
    table = judged(pd.concat([records, early], ignore_index=True))
    assert on(table, "2025-12-16")["reason"] == "the day is not over"
    assert on(table, "2025-12-14")["verdict"] == "usual"


def test_of_a_young_day_counts_are_judged_and_shares_are_not(make):
    records = daily(make, [25] * 50)
    assert on(judged(records), "2025-12-16")["verdict"] == "usual"
    row = on(judged(records, "stuck_share", stuck_after="12h"), "2025-12-16")
    assert row["reason"] == "backups of that day may still be under way"
    row = on(judged(records, "stuck_share", stuck_after="6h"), "2025-12-16")
    assert row["verdict"] == "usual"


def test_a_share_of_few_is_not_judged(make):
    table = judged(daily(make, [25] * 48 + [19, 25]), "stuck_share", stuck_after="6h")
    row = on(table, "2025-12-15")
    assert (row["n"], row["reason"]) == (19, "fewer than 20 backups to judge")


def test_stuck_shares_count_the_abandoned_and_name_their_part(make):
    good = daily(make, [100] * 60)
    bad = daily(make, [20], until="2025-12-09", status_code=0, end_time=None, user_id="other")
    gone = daily(make, [20], until="2025-12-09", status_code=2, end_time=None, user_id="third")
    table = judged(pd.concat([good, bad, gone], ignore_index=True), "stuck_share")
    row = on(table, "2025-12-09")
    assert (row["n"], row["verdict"]) == (140, "unusually_high")
    assert row["value"] == pytest.approx(40 / 140)
    assert row["message"] == (
        "Tue 9 Dec: 28.6 % of 140 backups did not complete, usually 0.0 %, usual up to 5.1 % "
        "(last 6 Tuesdays)"
    )


def test_slow_days_are_found_by_module_without_first_attempts(make):
    usual = daily(make, [40] * 45, until="2025-12-11", module="album", module_code="101")
    slow = daily(make, [40] * 5, module="album", module_code="101")
    slow["end_time"] = (slow["create_time"] + pd.Timedelta("90s")).astype(slow["end_time"].dtype)
    slow["duration_s"] = 90.0
    # Very slow first attempts of new devices, as many on the last of the usual days.
    new = daily(
        make,
        [60],
        until="2025-12-10",
        user_id="new",
        device_create_time="2025-12-10T00:00Z",
        module="album",
        module_code="101",
    )
    new["duration_s"] = 4000.0
    records = pd.concat([usual, slow, new], ignore_index=True)
    table = judged(records, "duration_p50_s", since="14D")
    assert set(table["module"]) == {"album"}
    high = table.loc[table["verdict"] == "unusually_high", "day_start"]
    assert list(high.dt.day) == [12, 13, 14, 15, 16]
    assert on(table, "2025-12-16")["message"] == (
        "Tue 16 Dec, album: half of 40 backups took 1 min 30 s or longer, usually 1 min, "
        "usual from 48 s up to 1 min 15 s (last 6 Tuesdays), 1.5 times as long"
    )
    assert on(table, "2025-12-10")["n"] == 40


@pytest.mark.parametrize("metric", ["stuck_share", "created"])
def test_days_whose_records_may_be_purged_are_not_judged(make, metric):
    records = daily(make, [30] * 60)
    records.loc[records["create_time"] < pd.Timestamp("2025-12-02T00:00Z"), "status_code"] = 2
    records = records[records["create_time"] >= pd.Timestamp("2025-12-01T00:00Z")]
    older = daily(make, [5] * 40, until="2025-11-30", user_id="u2")
    table = judged(pd.concat([records, older], ignore_index=True), metric)
    purged = table[table["reason"] == "records of that day may be purged"]
    assert purged["day_end"].max() == pd.Timestamp("2025-12-02T00:00Z")
    assert set(purged["verdict"]) == {"not_judged"}


def test_where_earlier_records_may_be_purged_a_fall_is_seen_and_a_rise_is_not(make):
    def build(last):
        # Of some devices nothing is left from before the fifth of December.
        cut = daily(make, [5] * 11 + [5 if last else 0], user_id="cut")
        cut.loc[cut["create_time"] < pd.Timestamp("2025-12-06T00:00Z"), "status_code"] = 2
        records = [daily(make, [30] * 28 + [last]), cut]
        return judged(pd.concat(records, ignore_index=True), since="10D")

    row = on(build(0), "2025-12-16")
    assert row["verdict"] == "unusually_low"
    assert row["message"] == (
        "Tue 16 Dec: 0 backups created, usually at least 30, usual from 11 "
        "(3 of the last 6 Tuesdays)"
    )
    row = on(build(90), "2025-12-16")
    assert (row["verdict"], row["reason"]) == ("not_judged", day_judgements.ONLY_A_FALL)
    assert row["message"] == (
        "Tue 16 Dec: 95 backups created, usually at least 30 (3 of the last 6 Tuesdays); "
        f"not judged, since {day_judgements.ONLY_A_FALL}"
    )


def test_what_was_purged_does_not_make_stuck_days_look_usual(make):
    records = daily(make, [100] * 75)
    device = records["device_id"].astype(int)
    created = records["create_time"]
    # Of seventy devices five get stuck each day; on the ninth of December twenty more do.
    is_stuck = device // 5 == created.dt.day_of_year % 14
    is_stuck |= (created.dt.strftime("%m-%d") == "12-09") & (device >= 80)
    records.loc[is_stuck, ["status_code", "end_time"]] = [0, pd.NaT]
    # Before the twentieth of November only what got stuck is left of them.
    begun, later = (pd.Timestamp(f"2025-11-{day}T00:00Z") for day in (20, 23))
    is_cut = device < 70
    records.loc[is_cut & ~is_stuck & (created < later), "status_code"] = 2
    records = records[~(is_cut & ~is_stuck & (created < begun))].reset_index(drop=True)
    row = on(judged(records, "stuck_share"), "2025-12-09")
    assert row["value"] == 0.25
    assert row["usual"] <= 0.05
    assert row["verdict"] == "unusually_high"


@pytest.mark.parametrize(
    ("now", "hours"), [("2025-11-05T12:00Z", 25), ("2025-04-09T12:00Z", 23)], ids=["long", "short"]
)
def test_days_of_the_clock_change_are_local_days_and_judged_like_others(make, now, hours):
    # Late in the evening and early in the morning: an hour off, and each would be in another day.
    until = (pd.Timestamp(now) - pd.Timedelta("1D")).tz_localize(None).normalize()
    parts = [
        daily(make, [15] * 77, until=until, zone="Europe/Berlin", hour=hour, fetched_at=now)
        for hour in (0, 23)
    ]
    table = judged(pd.concat(parts, ignore_index=True), tz="Europe/Berlin", since="4 weeks")
    lengths = (table["day_end"] - table["day_start"]) / pd.Timedelta("1h")
    assert set(lengths) == {24, hours}
    over = table[table["reason"].isna()]
    assert len(over) >= 28
    assert set(over["n"]) == {30}
    assert set(over["verdict"]) == {"usual"}


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(0, 40), min_size=20, max_size=60))
def test_values_usual_and_z_are_what_plain_python_finds(make, counts):
    counts = [1, *counts]
    table = judged(daily(make, counts), since=None)
    assert list(table["value"])[:-1] == counts
    first = next(day for day in range(len(counts)) if sum(counts[: day + 1]) > sum(counts) / 100)
    for day in range(len(counts)):
        weeks = [counts[day - 7 * week] for week in range(1, 7) if day - 7 * week > first]
        row = table.iloc[day]
        assert row["n_baseline"] == len(weeks)
        if len(weeks) >= 3:
            usual = pd.Series(weeks).median()
            assert row["usual"] == usual
            is_beyond = not usual / 1.5 <= counts[day] <= usual * 1.5
            assert (row["verdict"] != "usual") == (abs(row["z"]) > 3.5 and is_beyond)


@pytest.mark.parametrize("metric", ["created", "stuck_share", "duration_p50_s"])
@pytest.mark.parametrize("by", [None, ["module", "os_family"]], ids=str)
def test_as_many_records_are_behind_a_day_as_it_counts(dirty, metric, by):
    records, _ = dirty(3)
    table = judged(records, metric, by=by, tz="Europe/Berlin")
    most = table["n"].nlargest(2).index
    assert table["n"].sum() > 0
    for position in [*most, len(table) - 1]:
        behind = kd.analysis.rows(records, table, position)
        assert len(behind) == table["n"].iloc[position]


def test_what_it_judges_by_itself_it_can_judge_in_a_small_fleet():
    fleet = fleet_of_few()
    table = kd.analysis.anomalies(fleet, tz=TZ)
    assert table.attrs["koodrive"]["metric"] == "stuck_share"
    assert (table["verdict"] != "not_judged").sum() == 25
    # The reason why it is not the number of backups.
    assert set(judged(fleet, tz=TZ)["verdict"]) == {"not_judged"}


@pytest.mark.parametrize("metric", ["created", "stuck_share", "duration_p50_s"])
def test_a_judged_day_says_up_to_where_it_is_usual(make, metric):
    records = daily(make, [40] * 50, module="album", module_code="101")
    table = judged(records, metric, since="7D", stuck_after="6h")
    over = table[table["verdict"].isin(["usual", "unusually_high"])]
    assert len(over) == 7
    assert over["usual_hi"].notna().all()
    assert over["message"].str.contains("up to ", regex=False).all()


def test_days_that_are_not_judged_are_counted_by_their_reason():
    words = "fewer than 3 earlier {}s to compare with"
    table = pd.DataFrame(
        {
            "verdict": ["not_judged"] * 4 + ["usual", "unusually_low"],
            "reason": [
                *(words.format("Monday"), "the day is not over", words.format("Friday")),
                *("records of that day may be purged", None, day_judgements.ONLY_A_FALL),
            ],
        }
    )
    assert day_judgements.reasons(table) == (
        "2 days (fewer than 3 earlier days of the same weekday to compare with), "
        "1 day (records of that day may be purged), 1 day (the day is not over)"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"since": "2025-12-18"},
        {"since": NOW},
        {"until": "2026-12-01"},
        {"since": "2D", "until": "2026-03-01"},
    ],
    ids=str,
)
def test_a_window_that_begins_after_the_fetch_is_refused(make, options):
    with pytest.raises(
        kd.InvalidParameterError, match=r"begins after the fetch \(2025-12-17 08:30"
    ):
        judged(daily(make, [20] * 50), **options)


def test_a_window_that_ends_after_the_fetch_says_until_when_it_was_seen(make):
    def seen(**options):
        return judged(daily(make, [20] * 50), since="2025-12-01", **options).attrs["koodrive"]

    assert seen(until="2025-12-20")["seen_until"] == NOW.isoformat()
    assert seen(until=NOW)["seen_until"] is None
    assert seen()["seen_until"] is None


@pytest.mark.parametrize("metric", ["created", "stuck_share", "duration_p50_s"])
def test_a_classified_frame_may_be_filtered_to_what_is_asked_of(metric):
    records = fleet_of_few()
    by = ["module", "os_family"]
    whole = judged(records, metric, by=by, tz=TZ)
    part = records[records["module"] == "album"]
    mine = judged(part, metric, by=by, tz=TZ)
    expected = whole[whole["module"] == "album"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, expected)


@pytest.mark.parametrize("metric", ["created", "stuck_share", "duration_p50_s"])
def test_records_of_which_none_counts_are_no_error(make, metric):
    stuck = daily(make, [3] * 9, status_code=0, end_time=None, duration_s=None)
    table = judged(stuck, metric)
    assert not table["verdict"].str.startswith("unusually").any()


def test_it_tells_how_many_records_wait_for_deletion_since_none_may_be_a_filter():
    fleet = fleet_of_few()
    n = (fleet["state"] == "to_be_deleted").sum()
    for metric in ("stuck_share", "created"):
        assert judged(fleet, metric).attrs["koodrive"]["n_to_be_deleted"] == n > 0
        some = judged(fleet[fleet["state"] == "completed"], metric)
        assert some.attrs["koodrive"]["n_to_be_deleted"] == 0


def test_no_records_make_an_empty_table_with_its_columns(make):
    full = judged(daily(make, [20] * 50), by="module")
    empty = judged(make().head(0), by="module")
    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)
    assert list(empty.dtypes)[1:] == list(full.dtypes)[1:]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"metric": "size"}, "metric= takes created, stuck_share, duration_p50_s"),
        ({"metric": "duration_p50_s", "by": "os_family"}, "let by= hold 'module'"),
        ({"by": "value"}, "by= takes"),
        ({"by": "os_familly"}, "no column of the records: did you mean 'os_family'"),
        ({"by": "colour"}, "It takes os_family, .*module.* or a column that you add"),
        ({"since": "soon"}, "since= takes"),
        ({"until": "2025-12-01", "since": "2025-12-02"}, "since= must lie before"),
        ({"by": "record_id", "since": None}, "a later since=, or fewer groups"),
        ({"tz": "Mars"}, "zone"),
    ],
    ids=str,
)
def test_what_it_does_not_take_is_refused_with_what_it_does(make, options, says):
    records = daily(make, [4] * 60)
    records["record_id"] = [f"{number:019}" for number in range(len(records))]
    records = records.astype({"record_id": "string[pyarrow]"})
    with pytest.raises(kd.KooDriveError, match=says):
        judged(records, **options)


def test_one_record_of_a_wrong_clock_makes_no_silence_of_the_days_before_all_others(make):
    counts = [30] * 21
    records = daily(make, counts)
    odd = make({"create_time": "2019-01-01T00:00Z"}).iloc[:1]
    whole = judged(records)
    table = judged(pd.concat([records, odd], ignore_index=True))
    assert list(table["verdict"]) == list(whole["verdict"])
    assert "unusually_high" not in set(table["verdict"])


def test_days_that_may_be_purged_are_not_judged_in_any_group():
    records = kd.sandbox.frames("small", 0).records
    table = judged(records, "created", by="module")
    early = table[table["day_end"] <= pd.Timestamp("2025-11-20T00:00Z")]
    assert set(early["module"]) == {"album", "folder", "address_book"}
    assert set(early["verdict"]) == {"not_judged"}
    assert (early["reason"] == "records of that day may be purged").any()


def test_no_share_of_what_is_stuck_is_called_unusually_low(make):
    stuck = daily(make, [12] * 48 + [0, 12], end_time=None, status_code=0)
    good = daily(make, [28] * 48 + [40, 28], device_name="other")
    good["device_id"] = "9" + good["device_id"].str[1:]
    table = judged(
        pd.concat([stuck, good], ignore_index=True), stuck_after="1h", metric="stuck_share"
    )
    row = on(table, "2025-12-15")
    assert (row["value"], row["verdict"]) == (0, "usual")
    assert pd.isna(row["usual_lo"])
