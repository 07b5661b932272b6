import pandas as pd

import koodrive_nb as kd


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ").replace("\u00a0", " ")


def bars(figure):
    return [trace for trace in figure.data if trace.type == "bar"]


def words(figure):
    return [list(trace.text) for trace in figure.data if trace.type == "scatter"]


def every_device(fleet):
    """Give all devices that ever made a record as if they were bound."""
    known = fleet.records.drop_duplicates(["user_id", "device_id"]).dropna(subset="device_id")
    return known.reindex(columns=fleet.devices.columns).astype(fleet.devices.dtypes.to_dict())


def test_bars_are_what_waits_by_whether_it_had_completed_and_the_devices_at_risk():
    fleet = kd.sandbox.frames("small")
    table = kd.analysis.deletion_backlog(fleet.records, every_device(fleet))
    assert (table[["was_completed", "was_abandoned", "n_last_copy_at_risk"]].sum() > 0).all()
    figure = kd.charts.deletion_backlog(table)
    names = ["was_completed", "was_abandoned", "n_last_copy_at_risk"]
    assert [list(trace.x) for trace in bars(figure)] == [list(table[name]) for name in names]
    assert len({trace.marker.pattern.shape for trace in bars(figure)}) == 3
    waiting, at_risk = words(figure)
    first = table.iloc[0]
    assert waiting[0].startswith(f" {first['to_be_deleted']} of {first['n']}")
    assert at_risk[0].startswith(f" {first['n_last_copy_at_risk']} of {first['n_devices']}")
    total = f"{table['to_be_deleted'].sum()} records of {table['n'].sum():,} wait for deletion"
    assert figure.layout.title.text == total


def test_shares_of_few_are_not_written(make):
    frame = make(*[{"status_code": 2}] * 5, *[{}] * 20)
    devices = frame.head(1)[["user_id", "device_id", "device_name", "device_create_time"]]
    table = kd.analysis.deletion_backlog(frame, devices.assign(fetched_at=frame["fetched_at"]))
    waiting, at_risk = words(kd.charts.deletion_backlog(table))
    assert waiting == [" 0 of 0", " 5 of 25 (20 %)", " 0 of 0"]
    assert at_risk[1] == " 0 of 1"


def test_what_cannot_be_known_from_one_look_is_said_and_with_two_it_is_written(make):
    now = make({"status_code": 2, "create_time": "2025-12-01T00:00Z"}, {"user_id": "other"})
    fetched = (now["fetched_at"] - pd.Timedelta("7D")).astype(now["fetched_at"].dtype)
    then = now.assign(status_code=1, fetched_at=fetched).astype(now.dtypes.to_dict()).head(1)
    figure = kd.charts.deletion_backlog(now)
    assert "not computable from one look" in subtitle(figure)
    assert "marked" not in figure.layout.yaxis.ticktext[1]
    figure = kd.charts.deletion_backlog(now, previous=then)
    assert figure.layout.yaxis.ticktext[1] == "<b>album</b><br>+1 marked, -0 purged"
    told = subtitle(figure)
    assert "since 10 Dec 2025 08:30, of 1 user in both." in told
    assert "Not compared: 1 user seen only once." in told


def test_users_of_whom_the_earlier_look_lacks_records_are_named_in_the_figure(make):
    now = make(*({"user_id": user, "create_time": "2025-12-01T00:00Z"} for user in "aabc"))
    fetched = (now["fetched_at"] - pd.Timedelta("7D")).astype(now["fetched_at"].dtype)
    then = now.assign(fetched_at=fetched)
    for cut, words in ((1, "1 user of whom previous= lacks records"), (0, None)):
        told = subtitle(kd.charts.deletion_backlog(now, previous=then.iloc[cut:]))
        assert words in told if words else "Not compared" not in told


def test_the_30_largest_groups_are_drawn_with_their_names_as_text(make):
    rows = [{"device_name": f"<b>{number}", "status_code": 2} for number in range(40)]
    figure = kd.charts.deletion_backlog(make(*rows), by="device_name")
    assert len(figure.layout.yaxis.ticktext) == 30
    assert figure.layout.yaxis.ticktext[0] == "<b>&lt;b&gt;0</b>"
    assert "the 30 largest of 40 groups" in subtitle(figure)
    assert len(figure.to_json().encode()) < 300_000


def test_no_records_are_no_backlog(records):
    figure = kd.charts.deletion_backlog(records.head(0))
    assert figure.layout.title.text == "0 records of 0 wait for deletion"
    assert "no dates" in subtitle(figure)
    assert figure.layout.meta["alt"].startswith("0 records")
    assert [note.text for note in figure.layout.annotations] == [
        "There are no records: nothing to draw."
    ]
    assert not figure.data
    assert figure.layout.xaxis.visible is False


def test_without_the_list_of_devices_it_says_what_tells_of_them_and_draws_none(make):
    frame = make({"status_code": 2, "end_time": "2025-12-17T00:00Z"})
    without = kd.charts.deletion_backlog(frame)
    assert "the list of those that are bound: devices=." in subtitle(without)
    assert "at risk" not in subtitle(without).lower()
    assert [trace.name for trace in bars(without)] == [
        "waits: was completed",
        "waits: was abandoned",
    ]
    assert len(words(without)) == 1
    assert without.layout.xaxis.domain == (0, 1)
    devices = frame[["user_id", "device_id", "device_name", "device_create_time", "fetched_at"]]
    known = kd.charts.deletion_backlog(frame, devices)
    assert "devices=" not in subtitle(known)
    assert list(bars(known)[2].x) == [0, 1, 0]


def test_a_table_that_was_cut_is_told_with_what_is_left_and_what_is_missing(make):
    frame = make(*[{"status_code": 2}] * 5, *[{"module": "folder"}] * 3)
    table = kd.analysis.deletion_backlog(frame)
    assert "missing" not in subtitle(kd.charts.deletion_backlog(table))
    figure = kd.charts.deletion_backlog(table[table["module"] == "folder"])
    assert figure.layout.title.text == "0 records of 3 wait for deletion"
    assert "Rows of the table are missing: 5 records in other groups" in subtitle(figure)
    nothing = kd.charts.deletion_backlog(table.head(0))
    assert nothing.layout.annotations[0].text == "No row of the table is left: nothing to draw."
    assert "8 records in other groups" in subtitle(nothing)


def test_records_after_a_past_now_are_no_missing_rows(make):
    frame = make({}, {"create_time": "2025-12-17T08:00Z"})
    figure = kd.charts.deletion_backlog(frame, as_of="2025-12-17T00:00Z")
    assert figure.layout.title.text == "0 records of 1 wait for deletion"
    assert "missing" not in subtitle(figure)


def test_words_stand_clear_of_bars_however_long_they_are(make):
    frame = make(*[{"status_code": 2}] * 5, *[{"module": "folder", "status_code": 2}] * 3)
    figure = kd.charts.deletion_backlog(frame)
    (text,) = [trace for trace in figure.data if trace.type == "scatter"]
    assert set(text.x) == {0}
    half_a_bar = (1 - figure.layout.bargap) / 2
    assert all(at < place - half_a_bar for place, at in enumerate(text.y))
