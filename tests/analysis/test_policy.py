import pickle
from xml.etree import ElementTree as ET

import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.analysis.policy_files import CONTROLS, Policy

LONG_AGO = "2025-06-01T00:00Z"
NEVER, STUCK, DELETING, OLD, WELL = (f"100000000000000000{number}" for number in range(5))
OFF = {"users_answered": False, "fetch_span": False, "data_age": False}


@pytest.fixture
def fleet(make, bind):
    """Make five devices, each of its own kind, and one that is too young to be judged."""
    day = pd.Timestamp("2025-12-16T00:00Z")
    records = make(
        {"device_id": STUCK, "create_time": day - pd.Timedelta("1D"), "end_time": day},
        {"device_id": STUCK, "create_time": day, "status_code": 0},
        {"device_id": DELETING, "create_time": day, "end_time": day, "status_code": 2},
        {"device_id": OLD, "create_time": "2025-11-01T00:00Z", "end_time": "2025-11-01T00:01Z"},
        {"device_id": WELL, "create_time": day, "end_time": day},
        {"device_id": WELL, "create_time": day, "end_time": "2025-12-15T00:00Z"},
    )
    ids = (NEVER, STUCK, DELETING, OLD, WELL)
    return records, bind(dict.fromkeys(ids, LONG_AGO) | {"young": "2025-12-15T00:00Z"})


def check(fleet, policy=None, **options):
    found = kd.analysis.check_policy(*fleet, policy=policy or {}, **options)
    return found, found.controls.set_index("control")


def asked(**limits):
    return {"controls": OFF | limits}


def test_each_control_observes_what_its_name_says(fleet):
    least = dict.fromkeys(("protected", "protected_time", "settled", "adherence"), 1)
    most = dict.fromkeys(("never", "outdated", "stuck", "last_copy_at_risk", "data_quality"), 0)
    _, table = check(fleet, asked(**least, **most))
    shares = {
        "protected": 3 / 5,
        "settled": 4 / 5,
        "never": 1 / 5,
        "outdated": 1 / 5,
        "stuck": 1 / 5,
        "last_copy_at_risk": 1 / 5,
        "data_quality": 1 / 6,
        # Of seven days of five devices, and of one of the youngest.
        "adherence": 3 / 36,
    }
    for name, share in shares.items():
        assert table.loc[name, "observed"] == pytest.approx(share), name
    assert set(table["result"]) == {"fail"}
    assert table.loc["protected", ["n", "excluded"]].tolist() == [5, 1]
    behind = {
        "protected": "phone ·0000; phone ·0002; phone ·0003",
        "never": "phone ·0000; phone ·0002",
        "outdated": "phone ·0003",
        "stuck": "phone ·0001",
        "settled": "phone ·0001",
        "last_copy_at_risk": "phone ·0002",
        "data_quality": "end_before_start",
    }
    assert table.loc[list(behind), "offenders"].to_dict() == behind
    assert table.loc["adherence", "offenders"].count("phone") == 5


def test_behind_what_did_not_settle_are_the_devices_of_the_window(make, bind):
    week = ("2025-12-08", "2025-12-15")
    day, later = pd.Timestamp("2025-12-10T00:00Z"), pd.Timestamp("2025-12-16T00:00Z")
    lost = {"create_time": day, "status_code": 2, "end_time": pd.NaT}
    records = make(
        {"device_id": WELL, "create_time": day, "status_code": 0},
        {"device_id": WELL, "create_time": later, "end_time": later},
        {"device_id": OLD} | lost,
        {"device_id": OLD} | lost,
        {"device_id": STUCK, "create_time": day - pd.Timedelta("9D"), "status_code": 0},
    )
    devices = bind(dict.fromkeys((WELL, OLD, STUCK), LONG_AGO))
    _, table = check((records, devices), asked(settled=1, stuck=0), window=week)
    behind = {"settled": "phone ·0003; phone ·0004", "stuck": "phone ·0001"}
    assert table["offenders"].to_dict() == behind


def test_a_limit_that_is_met_exactly_passes(fleet):
    for limit, result in ((0.6, "pass"), (0.6000001, "fail")):
        _, table = check(fleet, asked(protected=limit))
        assert table.loc["protected", "result"] == result
    for limit, result in ((0.2, "pass"), (0.1999999, "fail")):
        _, table = check(fleet, asked(stuck=limit))
        assert table.loc["stuck", "result"] == result
        assert (table.loc["stuck", "offenders"] == "") == (result == "pass")


def test_the_fetch_itself_is_checked_without_being_asked(fleet):
    records, devices = fleet
    devices["fetched_at"] -= pd.Timedelta("30h")
    users = pd.DataFrame({"user_id": [str(number) for number in range(50)], "outcome": "complete"})
    users.loc[7, "outcome"] = "partial"
    _, table = check((records, devices), users=users, as_of="2025-12-18T08:30Z")
    assert list(table.index) == ["users_answered", "fetch_span", "data_age"]
    assert table["observed"].tolist() == [0.98, 30, 54]
    assert table["threshold"].tolist() == [0.99, 24, 48]
    assert set(table["result"]) == {"fail"}
    assert table["offenders"].tolist() == ["7", "", ""]
    _, table = check((records, devices), as_of="2025-12-01T00:00Z")
    assert table.loc["data_age", "observed"] == 0


def test_what_nobody_can_judge_is_no_data_and_fails_only_if_the_policy_says_so(fleet):
    records, _ = fleet
    policy = asked(protected=0.5, adherence=0.5, outdated=0.5) | {"no_data": "skip"}
    policy["controls"] |= {"users_answered": 0.9, "data_age": "48h"}
    found, table = check((records, None), policy)
    assert set(table["result"]) == {"no_data"}
    assert table["observed"].isna().all()
    found.raise_for_failures()
    found, table = check((records, None), policy | {"no_data": "fail"})
    assert set(table["result"]) == {"fail"}
    with pytest.raises(kd.PolicyError, match=r"protected has no data \(limit at least 50 %\)"):
        found.raise_for_failures()
    empty = records.head(0)
    limits = dict.fromkeys(set(CONTROLS) - {"fetch_span", "data_age"}, 0.5)
    _, table = check((empty, None), {"controls": limits})
    assert set(table["result"]) == {"no_data"}


def test_a_failure_tells_which_and_by_how_much_and_survives_pickling(fleet):
    found, _ = check(fleet, asked(protected=0.7, stuck=0.5))
    with pytest.raises(kd.PolicyError) as caught:
        found.raise_for_failures()
    said = "1 of 2 controls failed: protected is 60 % (limit at least 70 %)."
    assert str(caught.value) == said
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == said
    pd.testing.assert_frame_equal(again.controls, caught.value.controls)
    assert list(again.controls["control"]) == ["protected"]


def test_a_scope_leaves_other_modules_out(fleet):
    records, devices = fleet
    folder = {"module": "folder", "module_code": "100"}
    is_well = records["device_id"] == WELL
    records.loc[is_well, list(folder)] = list(folder.values())
    policy = asked(protected=0.5) | {"scope": {"modules": ["folder"]}}
    _, table = check((records, devices), policy)
    assert table.loc["protected", "observed"] == 1 / 5


def test_options_of_a_policy_reach_the_numbers(fleet):
    _, table = check(fleet, asked(protected=0, outdated=0) | {"rpo": "60D"})
    assert table["observed"].tolist() == [4 / 5, 0]
    _, table = check(fleet, asked(outdated=0) | {"slack": 10})
    assert table["observed"].tolist() == [0]
    _, table = check(fleet, asked(never=0) | {"grace": "1D"})
    assert table.loc["never", "n"] == 6


def test_junit_tells_each_control_and_is_the_same_each_time(fleet, tmp_path):
    records, devices = fleet
    devices["device_name"] = '<b>"&\x1b[31m\x00'
    policy = asked(protected=0.7, stuck=0.5, data_age="48h")
    path = tmp_path / "policy.xml"
    texts = []
    for _ in range(2):
        found, _ = check((records, devices), policy)
        found.to_junit(path)
        texts.append(path.read_bytes())
    assert texts[0] == texts[1]
    assert list(tmp_path.iterdir()) == [path]
    root = ET.fromstring(texts[0])
    suite = root.find("testsuite")
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "3", "failures": "1", "errors": "0", "skipped": "1"}
    cases = {case.get("name"): case for case in suite}
    assert list(cases) == ["protected", "stuck", "data_age"]
    failure = cases["protected"].find("failure")
    assert failure.get("message") == "protected is 60 % (limit at least 70 %)"
    assert failure.text.startswith('<b>"& [31m ·0000')
    assert len(cases["stuck"]) == 0
    assert cases["data_age"].find("skipped") is not None


def test_a_report_that_cannot_be_written_leaves_nothing_behind(fleet, tmp_path):
    found, _ = check(fleet)
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (folder, tmp_path / "nowhere" / "policy.xml"):
        with pytest.raises(kd.InvalidParameterError, match="cannot be written"):
            found.to_junit(path)
    with pytest.raises(kd.InvalidParameterError, match=r"to_junit\(\) takes the path"):
        found.to_junit(None)
    assert list(tmp_path.rglob("*")) == [folder]


def test_a_file_says_the_same_as_a_mapping(fleet, tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text('rpo = "3D"\n[controls]\nprotected = 0.5\ndata_age = false\n')
    _, table = check(fleet, path)
    mapping = {"rpo": "3D", "controls": {"protected": 0.5, "data_age": False}}
    pd.testing.assert_frame_equal(table, check(fleet, mapping)[1])
    assert Policy.read(str(path)) == Policy.read(mapping)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rpo = ", "policy.toml is no TOML"),
        ('"a\\u001b[2J" = 1', r"policy.toml: unknown key a \[2J: the policy takes"),
        ("a = " + "[" * 3_000, "policy.toml is no TOML"),
        ("rto = 1", "policy.toml: unknown key rto: the policy takes rpo, grace"),
        ("[controls]\nprotectd = 1", "policy.toml: unknown key protectd: controls takes protected"),
        ('[scope]\nregion = "x"', "policy.toml: unknown key region: scope takes modules"),
        ("controls = 1", "policy.toml: controls takes a table"),
        ("rpo = 7", "policy.toml: rpo= takes a positive duration"),
        ("slack = 0.5", "policy.toml: slack= takes a number"),
        ('stuck_after = "x"', "policy.toml: stuck_after= takes a positive duration"),
        ('tz = "Mars"', "policy.toml: tz= 'Mars' is no time zone"),
        ('no_data = "pass"', "policy.toml: no_data takes skip or fail"),
        ("[scope]\nmodules = []", r"policy.toml: scope.modules takes a list of folder"),
        ("[scope]\nmodules = [1]", r"policy.toml: scope.modules takes a list of folder"),
        ("[controls]\nprotected = 70", r"policy.toml: controls.protected takes a share"),
        ("[controls]\nprotected = true", r"policy.toml: controls.protected takes a share"),
        ("[controls]\nprotected = nan", r"policy.toml: controls.protected takes a share"),
        ("[controls]\ndata_age = 48", r"policy.toml: controls.data_age= takes a positive duration"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused_with_its_file_and_key(fleet, tmp_path, text, says):
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(kd.InvalidParameterError, match=says) as caught:
        check(fleet, path)
    assert str(tmp_path) not in str(caught.value)


def test_what_is_no_policy_is_refused(fleet, tmp_path):
    with pytest.raises(kd.InvalidParameterError, match=r"none\.toml cannot be read"):
        check(fleet, tmp_path / "none.toml")
    with pytest.raises(kd.InvalidParameterError, match="policy= takes the path"):
        check(fleet, 7)
    with pytest.raises(kd.InvalidParameterError, match="users= takes"):
        check(fleet, users=[1])


def test_a_report_is_not_written_through_a_link_that_waits_beside_it(fleet, tmp_path):
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / ".junit.xml.part").symlink_to(other)
    found, _ = check(fleet, asked(stuck=0))
    found.to_junit(tmp_path / "junit.xml")
    assert other.read_text() == "mine"
    assert not (tmp_path / "junit.xml").is_symlink()
