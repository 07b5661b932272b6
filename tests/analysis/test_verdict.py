import pandas as pd
import pytest

import koodrive_nb as kd

WEEK = ("2025-12-08", "2025-12-15")
LONG_AGO = "2025-06-01T00:00Z"


@pytest.fixture
def fleet(make, bind):
    """Make 40 devices, of which 20 are protected at the end of the week, and 30 were before it."""
    ids = [f"10000000000000000{number}" for number in range(10, 50)]
    rows = [
        {"device_id": device, "create_time": when, "end_time": when}
        for when, few in (("2025-12-12T00:00Z", ids[:20]), ("2025-12-05T00:00Z", ids[:30]))
        for device in few
    ]
    return make(*rows), bind(dict.fromkeys(ids, LONG_AGO))


@pytest.fixture
def table(fleet):
    return kd.analysis.headline(*fleet, window=WEEK)


def check(fleet, window=WEEK, as_of=None, **limits):
    policy = {"controls": {"users_answered": False, "fetch_span": False, "data_age": False}}
    policy["controls"] |= limits
    return kd.analysis.check_policy(*fleet, policy=policy, window=window, as_of=as_of)


def test_what_failed_comes_first_then_what_got_worse_then_what_nobody_knows(fleet, table):
    lines = kd.analysis.verdict(table, check(fleet, protected=0.7, never=0.2, data_age="48h"))
    worst = "50 % of 40 devices have no backup from the last 7 d"
    never = "25 % of 40 devices have never completed a backup"
    assert lines[0] == f"Attention: {worst} (limit 30 %), 25.0 pp more than in the week before."
    assert lines[1] == f"Attention: {never} (limit 20 %), as in the week before."
    assert lines[-1] == "0 of 3 controls passed; without data: data_age."
    lines = kd.analysis.verdict(table)
    assert lines[0] == f"{worst}, 25.0 pp more than in the week before."
    # Of 40 devices for seven days, ten were exposed for all of them and ten for the last three.
    assert lines[-1].startswith("For 35.7 % of 6,720 device-hours there was no backup")
    assert lines[-1].endswith(" pp less than in the week before.")
    unknown = kd.analysis.headline(fleet[0], window=WEEK)
    assert kd.analysis.verdict(unknown)[-1] == (
        "Not known: last copy at risk (no list of devices was given)."
    )


def test_what_is_not_compared_says_why(fleet):
    before = kd.analysis.headline(*fleet, window=("2025-12-01", "2025-12-08"))
    before["published_at"] = before["as_of"]
    table = kd.analysis.headline(*fleet, window=WEEK, rpo="5D", published=before)
    assert (
        "50 % of 40 devices have no backup from the last 5 d; not comparable: RPO 7 d -> 5 d."
        in kd.analysis.verdict(table)
    )


@pytest.mark.parametrize(
    ("previous", "said"),
    [
        (None, "the week before"),
        (("2025-12-01", "2025-12-08"), "the week before"),
        (("2025-11-10", "2025-11-17"), "the earlier window"),
        (("2025-12-07", "2025-12-08"), "the earlier window"),
    ],
)
def test_only_the_week_before_is_called_so(fleet, previous, said):
    table = kd.analysis.headline(*fleet, window=WEEK, previous=previous)
    lines = kd.analysis.verdict(table)
    assert any(line.endswith(f" than in {said}.") for line in lines)
    table.attrs = {}
    assert "the week before" not in "".join(kd.analysis.verdict(table))


def test_a_check_of_another_window_is_told_with_the_value_that_it_saw(fleet, table):
    other = check(fleet, window=("2025-12-01", "2025-12-08"), protected=0.9)
    lines = kd.analysis.verdict(table, other)
    assert lines[0] == (
        "Attention: in the window of the check, protected is 75 % (limit at least 90 %)."
    )
    assert any(line.startswith("50 % of 40 devices have no backup") for line in lines)


def test_what_only_a_policy_asks_for_is_said_in_words_too(fleet, table):
    users = pd.DataFrame({"user_id": list("abcd"), "outcome": ["complete"] * 3 + ["failed"]})
    limits = {"outdated": 0, "adherence": 0.995, "users_answered": 0.9, "data_age": "48h"}
    records, devices = fleet
    records.loc[:9, "end_time"] = records.loc[:9, "create_time"] - pd.Timedelta("1h")
    policy = {"rpo": "2D", "controls": {"fetch_span": False, "data_quality": 0.1} | limits}
    found = kd.analysis.check_policy(
        records, devices, policy=policy, users=users, window=WEEK, as_of="2025-12-20T08:30Z"
    )
    lines = kd.analysis.verdict(table, found)
    assert {line for line in lines if line.startswith("Attention")} == {
        "Attention: 75 % of 40 devices are outdated (limit 0 %).",
        "Attention: on 92.9 % of 280 device-days no backup completed (limit 0.5 %).",
        "Attention: 20 % of 50 rows break a rule of the data's quality (limit 10 %).",
        "Attention: the data of 25 % of 4 users did not come whole (limit 10 %).",
        "Attention: the data is 72 h old (limit 48 h).",
    }


def test_incomplete_data_is_said_before_anything_else(fleet):
    users = pd.DataFrame({"user_id": ["u", "v"], "outcome": ["complete", "failed"]})
    table = kd.analysis.headline(*fleet, window=WEEK, users=users)
    said = "Incomplete: the data of 1 of 2 users did not come whole."
    assert kd.analysis.verdict(table)[0] == said
    table.attrs["koodrive"] |= {"users": None, "complete": False}
    assert kd.analysis.verdict(table)[0] == "Incomplete: part of the data did not come."


def test_a_sample_is_said_before_anything_else(fleet):
    records, devices = fleet
    records = records.copy()
    for complete in (True, False):
        about = {"complete": complete, "sampled_of": 2_000, "sampled": 60}
        records.attrs["koodrive"] = about
        lines = kd.analysis.verdict(kd.analysis.headline(records, devices, window="2025-W50"))
        said = "This is of a sample of 60 of 2,000 users, not of all."
        assert lines.index(said) == 1 - complete


def test_what_is_not_all_or_nothing_never_looks_so(table):
    table.loc[table["kpi"] == "never", "value"] = 0.0001
    table.loc[table["kpi"] == "protected", "value"] = 0.0001
    lines = kd.analysis.verdict(table)
    assert any(line.startswith("less than 0.1 %".capitalize()) for line in lines)
    assert any(line.startswith("More than 99.9 %") for line in lines)


def test_where_only_counts_are_told_a_share_does_not_tell_of_few(table, monkeypatch):
    few = table.assign(value=[0.99, *table["value"][1:]], denominator=288.0)
    assert any("1 % of 288 devices have no backup" in line for line in kd.analysis.verdict(few))
    monkeypatch.setenv("KOODRIVE_PRIVACY", "counts")
    assert "Fewer than 5 of 288 devices have no backup from the last 7 d." in kd.analysis.verdict(
        few
    )


def test_anything_else_is_refused(table):
    with pytest.raises(kd.InvalidParameterError, match="takes the table"):
        kd.analysis.verdict(["x"])
    with pytest.raises(kd.InvalidParameterError, match="takes the table"):
        kd.analysis.verdict(table.drop(columns="window_end"))
    with pytest.raises(kd.InvalidParameterError, match="check= takes"):
        kd.analysis.verdict(table, "policy.toml")
