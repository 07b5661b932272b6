"""What a sweep does about users who fail, a service that is gone, a full disk, and unfit input."""

import itertools
import re
import resource
import subprocess
import sys
import threading
import tracemalloc

import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner

import koodrive_nb as kd
from koodrive_nb import cli, pacing, privacy
from koodrive_nb.columns import STRING
from koodrive_nb.fleet import parts, users, visits

KEY = "0f" * 32
IDS = [f"u{number:03}" for number in range(60)]


@pytest.fixture
def client(service):
    instant = pd.Timestamp("2026-01-02T03:04:05Z").to_pydatetime()
    with service.connect(auth=kd.AppAuth("a378331e", "5e1c0ffee"), clock=lambda: instant) as found:
        yield found


def outcomes(snapshots):
    frame = snapshots.read("users")
    return dict(zip(frame["user_id"], frame["outcome"], strict=True))


def incomplete(*arguments, **options):
    with pytest.raises(kd.IncompleteError) as caught:
        kd.fleet.sweep(*arguments, **options)
    return caught.value


def failing(service, *bad, status=503):
    return lambda user_id: service.Answer(b"", status) if user_id in bad else None


@pytest.mark.parametrize("how", ["resume", "the same call"])
def test_users_who_fail_keep_it_from_being_published_and_are_asked_alone(
    service, fleet, client, snapshots, how
):
    fleet.first = failing(service, "u007", "u033")
    error = incomplete(client, IDS, snapshots)
    assert "2 of 60 users are left: user u007, devices (ServerError" in str(error)
    assert ".resume()" in str(error)
    assert 'errors="collect"' in str(error)
    assert sorted(error.failures["user_id"]) == ["u007", "u033"]
    assert error.retryable
    assert error.frame is None
    assert snapshots.list().empty
    before = fleet.asked.copy()
    fleet.first = lambda user_id: None
    error.resume() if how == "resume" else kd.fleet.sweep(client, IDS, snapshots)
    assert set(fleet.asked - before) == {"u007", "u033"}
    assert set(outcomes(snapshots).values()) == {"complete"}
    assert len(snapshots.read()) == 3 * len(IDS)


def test_users_who_are_refused_for_good_are_counted_by_cause_and_not_asked_for_again_in_vain(
    service, fleet, client, snapshots
):
    status = {"u007": 401, "u008": 401, "u033": 404}
    fleet.first = lambda user_id: (
        service.Answer(b"", status[user_id]) if user_id in status else None
    )
    error = incomplete(client, IDS, snapshots)
    assert "3 will not come by asking again (2 HTTP 401, 1 HTTP 404); 0 may." in str(error)
    assert 'kept: the same call with errors="collect" publishes without them.' in str(error)
    assert "Leave those" in error.advice
    assert ".resume()" not in str(error)
    status["u009"] = 503
    error = incomplete(client, IDS[:30], snapshots, restart=True)
    assert "2 will not come by asking again (2 HTTP 401); 1 may." in str(error)
    assert ".resume()" in str(error)
    assert error.failures["error"].str.contains("trace id").all()
    kd.fleet.sweep(client, IDS[:30], snapshots, errors="collect")
    fetched = kd.fleet.fetch(client, IDS[:30], errors="collect")
    for told in (snapshots.read("users"), fetched.users):
        causes = told["error"].value_counts()
        assert sorted(causes) == [1, 2]
        assert not causes.index.str.contains("(trace id", regex=False).any()


def test_a_sweep_that_is_not_finished_is_told_of_where_nothing_is_found(
    service, fleet, client, snapshots
):
    with pytest.raises(kd.SnapshotError, match=r"yet: sweep users into it \(`koodrive-nb sweep`"):
        snapshots.read()
    fleet.first = failing(service, "u007")
    incomplete(client, IDS, snapshots)
    begun = "a sweep of 60 users that began at 2026-01-02 03:04 UTC is not finished"
    with pytest.raises(kd.SnapshotError, match=f"yet: {begun}, and the same command"):
        snapshots.read()
    assert repr(snapshots) == f"Snapshots(0; {begun})"
    draft = snapshots._place.folder / ".draft" / "draft.json"
    for content in ('{"schema_version": 1, "question": [], "facts": 1}', "{", None):
        draft.write_text(content) if content else draft.unlink()
        assert repr(snapshots) == "Snapshots(0)"


def test_what_may_pass_is_asked_once_more_at_the_end(service, fleet, client, snapshots):
    fleet.first = lambda user_id: (
        service.Answer(b"", 503) if user_id == "u007" and fleet.asked["u059"] < 4 else None
    )
    kd.fleet.sweep(client, IDS, snapshots)
    assert set(outcomes(snapshots).values()) == {"complete"}


def test_those_who_fail_can_be_published_as_such(service, fleet, client, snapshots):
    fleet.first = failing(service, "u007", status=404)
    made = kd.fleet.sweep(client, IDS, snapshots, errors="collect")
    assert repr(made).endswith("60 users, 177 records, incomplete: 1 failed)")
    assert not any(line["complete"] for line in made.manifest["ledger"])
    frame = snapshots.read("users").set_index("user_id")
    assert frame.loc["u007", "outcome"] == "failed"
    assert frame.loc["u007", "error"].startswith("devices (NotFoundError: ")
    assert frame.loc["u007", ["n_devices", "n_records"]].isna().all()
    assert "u007" not in set(snapshots.read()["user_id"])
    assert fleet.asked["u007"] == 1


def test_a_user_of_whom_a_part_failed_has_no_rows(service, fleet, client, snapshots):
    fleet.first = lambda user_id: (
        service.Answer(b"", 404) if user_id == "u007" and fleet.asked[user_id] == 4 else None
    )
    kd.fleet.sweep(client, IDS, snapshots, errors="collect")
    assert outcomes(snapshots)["u007"] == "failed"
    for dataset in ("records", "devices"):
        assert "u007" not in set(snapshots.read(dataset)["user_id"])


def test_refused_credentials_end_it_after_fifty_users(service, fleet, client, snapshots):
    many = [f"v{number:03}" for number in range(300)]
    fleet.first = lambda user_id: service.Answer({"code": 401}, 401)
    with pytest.raises(kd.AuthenticationError):
        kd.fleet.sweep(client, many, snapshots, errors="collect")
    assert 50 < len(fleet.asked) < 100
    fleet.first = lambda user_id: None
    kd.fleet.sweep(client, many, snapshots)
    assert len(snapshots.read()) == 900


def test_a_service_that_goes_away_ends_it_and_what_came_is_kept(
    service, fleet, client, snapshots, monkeypatch
):
    monkeypatch.setattr(visits, "_KEPT_EVERY_S", 0.01)
    gone = threading.Event()

    def first(user_id):
        if len(fleet.asked) > 40:
            gone.set()
        if gone.is_set():
            raise ConnectionError

    fleet.first = first
    error = incomplete(client, IDS, snapshots, errors="collect")
    assert "it ended early: " in str(error)
    assert "gave no answer" in str(error)
    before, fleet.first = fleet.asked.copy(), lambda user_id: None
    kd.fleet.sweep(client, IDS, snapshots)
    assert len(fleet.asked - before) < 45
    assert len(snapshots.read()) == 180


def test_ctrl_c_keeps_what_was_kept(service, fleet, client, snapshots, monkeypatch):
    monkeypatch.setattr(visits, "_KEPT_EVERY_S", 0.01)
    noted, note = [], parts.Parts.note

    def interrupt(self, piece):
        note(self, piece)
        noted.extend(piece.complete)
        raise KeyboardInterrupt

    monkeypatch.setattr(parts.Parts, "note", interrupt)
    with pytest.raises(KeyboardInterrupt):
        kd.fleet.sweep(client, IDS, snapshots)
    monkeypatch.setattr(parts.Parts, "note", note)
    assert noted
    before = {IDS[place]: fleet.asked[IDS[place]] for place in noted}
    kd.fleet.sweep(client, IDS, snapshots)
    assert before == {user_id: fleet.asked[user_id] for user_id in before}
    assert len(snapshots.read()) == 180


def test_a_full_disk_is_told_and_what_came_before_is_kept(fleet, client, snapshots):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        with pytest.raises(kd.SnapshotError, match="nothing is lost"):
            kd.fleet.sweep(client, IDS, snapshots)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kd.fleet.sweep(client, IDS, snapshots)
    assert len(snapshots.read()) == 180


def test_arrow_has_its_usual_allocator_back_after_a_sweep_that_failed(
    service, fleet, client, snapshots
):
    usual, during = pa.default_memory_pool().backend_name, set()

    def first(user_id):
        during.add(pa.default_memory_pool().backend_name)
        return service.Answer(b"", 404) if user_id == "u007" else None

    fleet.first = first
    incomplete(client, IDS, snapshots)
    assert during == {"system"}
    assert pa.default_memory_pool().backend_name == usual


def test_another_question_is_not_mixed_with_what_is_there(service, fleet, client, snapshots):
    fleet.first = failing(service, "u007")
    incomplete(client, IDS, snapshots)
    fleet.first = lambda user_id: None
    for other in ([*IDS, "u999"], pd.DataFrame({"user_id": IDS, "plan": "5 GB"})):
        with pytest.raises(kd.SnapshotError, match="another question"):
            kd.fleet.sweep(client, other, snapshots)
    before = fleet.asked.copy()
    kd.fleet.sweep(client, [*IDS, "u999"], snapshots, restart=True)
    assert len(fleet.asked - before) == 61


def test_pseudonyms_leave_no_name_on_the_disk_at_any_time(
    service, fleet, client, snapshots, monkeypatch
):
    monkeypatch.setattr(privacy, "_meant", {})
    monkeypatch.setenv("KOODRIVE_PRIVACY", "pseudonyms")
    monkeypatch.setenv("KOODRIVE_PRIVACY_KEY", KEY)
    fleet.first = failing(service, "u007")
    error = incomplete(client, IDS, snapshots)
    (failed,) = error.failures["user_id"]
    assert privacy._meant == {failed: "u007"}
    for _ in range(2):
        for path in snapshots._place.folder.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            assert not re.search(rb"u0\d\d|Phone of|%s" % KEY.encode(), content), path
        if not snapshots.list().empty:
            break
        assert "u007" not in str(error)
        fleet.first = lambda user_id: None
        kd.fleet.sweep(client, IDS, snapshots)
    frame = snapshots.read("users")
    assert frame["user_id"].str.startswith("user-").all()
    assert frame["user_id"].is_monotonic_increasing
    # In memory, sweeps would keep as many as there are users and devices.
    assert privacy._meant == {failed: "u007"}
    assert client.for_user(failed)._settings.user_id == "u007"


def test_a_bound_on_the_rate_holds_in_every_second(fleet, client, snapshots, monkeypatch):
    sent, wait = [], pacing.Pace.wait

    def waited(self):
        sent.append(wait(self))
        return sent[-1]

    monkeypatch.setattr(pacing.Pace, "wait", waited)
    kd.fleet.sweep(client, IDS[:20], snapshots, max_rate=100)
    sent.sort()
    assert len(sent) == 80
    gaps = [late - early for early, late in itertools.pairwise(sent)]
    assert min(gaps) >= 0.0099
    assert sum(gaps) < 1.5
    assert client._service.transport._pace.most_per_s is None


def test_a_sample_depends_on_seed_and_ids_alone_and_larger_ones_hold_it(fleet, client, snapshots):
    table = pd.DataFrame({"user_id": IDS})
    ten, twenty, other = (
        set(users.sampled(table, size, seed)["user_id"])
        for size, seed in [(10, 1), (20, 1), (10, 2)]
    )
    mixed = set(users.sampled(table.sample(frac=1, random_state=3), 10, 1)["user_id"])
    assert (len(ten), len(twenty)) == (10, 20)
    assert ten < twenty
    assert mixed == ten != other
    made = kd.fleet.sweep(client, IDS, snapshots, sample=10, seed=1)
    assert set(outcomes(snapshots)) == ten
    assert (made.manifest["sampled_of"], made.manifest["seed"]) == (60, 1)
    assert repr(made).endswith(", a sample of 10 of 60 users, 30 records, complete)")
    told = {"source": "live", "complete": True, "sampled_of": 60, "sampled": 10}
    assert snapshots.read("users").attrs["koodrive"] == told


def test_ids_decide_who_is_drawn_where_hashes_are_equal(monkeypatch):
    monkeypatch.setattr(users, "_rank", lambda user_id, seed: 1 if user_id == "u050" else 2**64 - 1)
    mixed = pd.DataFrame({"user_id": IDS[::-1]}, dtype=STRING)
    assert [*users.sampled(mixed, 3, 0)["user_id"]] == ["u050", "u001", "u000"]


def test_one_long_id_takes_no_memory_for_the_others():
    def peak(last):
        table = pd.DataFrame({"user_id": [*map(str, range(20_000)), last]}, dtype=STRING)
        tracemalloc.start()
        try:
            assert len(users.sampled(table, 10, 1)) == 10
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak("9" * 128) < 1.5 * peak("9")


def test_records_without_a_device_are_looked_up_and_odd_rows_kept(
    service, fleet, client, snapshots
):
    odd = {
        "u001": {"deviceInfo": {"deviceId": 9}, "version": "one"},
        "u002": {"deviceInfo": None},
        "u003": {"recordId": ""},
    }
    usual = service.answer

    def answer(asked):
        user_id = asked.headers["X-User-Id"]
        if asked.query.get("moduleCode") != "101" or user_id not in odd:
            return usual(asked)
        mine = asked.query.get("deviceId") in {None, f"9{user_id}"}
        return service.Answer(
            {"code": 0, "data": [fleet.record(user_id, "101") | odd[user_id]] if mine else []}
        )

    service.answer = answer
    made = kd.fleet.sweep(client, IDS[:6], snapshots)
    fetched = kd.fleet.fetch(client, IDS[:6])
    got = snapshots.read()
    by = ["user_id", "record_id"]
    pd.testing.assert_frame_equal(
        got.sort_values(by, ignore_index=True), fetched.records.sort_values(by, ignore_index=True)
    )
    found = got.set_index("record_id")["device_source"]
    assert found["101002"] == "query"
    line = {(line["dataset"], line["module"]): line for line in made.manifest["ledger"]}
    assert line["records", "album"]["set_aside"] == 1
    assert line["records", "album"]["coerced"] == 1
    told = kd.ledger(fetched.records).groupby(["dataset", "module"])["rows"].sum()
    assert all(told[key] == each["rows"] for key, each in line.items() if key[1])


@pytest.mark.parametrize(
    ("ids", "options", "says"),
    [
        ("u1", {}, r"sweep\(\) takes a list"),
        ([], {}, "no users"),
        (["u1", None], {}, "position 1"),
        (["u1"], {"workers": 0}, "workers="),
        (["u1"], {"max_rate": 0}, "max_rate="),
        (["u1"], {"max_rate": float("nan")}, "max_rate="),
        (["u1"], {"sample": 0}, "sample="),
        (["u1"], {"seed": "x"}, "seed="),
        (["u1"], {"errors": "no"}, "errors="),
        (["u1"], {"restart": "no"}, "restart="),
        (["u1", "u2"], {"workers": 2}, "clock of your own"),
        (pd.DataFrame({"user_id": ["u1"], "snapshot": ["x"]}), {}, "rename"),
        (pd.DataFrame({"user_id": ["u1"], 7: ["x"]}), {}, "rename"),
    ],
)
def test_what_is_unfit_is_refused_before_anything_is_asked(  # noqa: PLR0913, PLR0917 -- a table
    fleet, client, snapshots, ids, options, says
):
    with pytest.raises(kd.InvalidParameterError, match=says):
        kd.fleet.sweep(client, ids, snapshots, **options)
    assert not fleet.asked
    assert not snapshots._place.folder.exists()


def test_a_token_and_credentials_of_ones_own_are_refused(service, snapshots):
    class Own(kd.AppAuth):
        pass

    with service.connect() as client, pytest.raises(kd.ConfigurationError, match="AppAuth"):
        kd.fleet.sweep(client, IDS, snapshots)
    own, refused = (
        Own("a3", "5e1c0ffee"),
        pytest.raises(kd.InvalidParameterError, match="Own cannot"),
    )
    with service.connect(auth=own) as client, refused:
        kd.fleet.sweep(client, IDS, snapshots, workers=2)
    with pytest.raises(kd.InvalidParameterError, match=r"Snapshots\('folder'\)"):
        kd.fleet.sweep(client, IDS, "folder")
    assert not service.asked


def test_the_command_sweeps_and_says_what_and_where(tmp_path, monkeypatch):
    kd.sandbox.users().head(12).to_csv(tmp_path / "users.csv", index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "system")  # lest it be left to other tests
    command = ["sweep", "users.csv", "-o", "sweeps", "--sandbox", "--max-rate", "500"]
    ran = CliRunner().invoke(cli.main, command)
    assert ran.exit_code == 0, ran.output
    assert ran.stderr.startswith("Complete: sweeps has Snapshot(20251217T083000Z, 12 users, ")
    assert list(kd.snapshots.Snapshots(tmp_path / "sweeps").read("users").columns[-2:]) == [
        "region",
        "plan",
    ]


def test_the_command_lets_arrow_take_all_memory_from_the_system(tmp_path):
    kd.sandbox.users().head(2).to_csv(tmp_path / "users.csv", index=False)
    code = (
        "from click.testing import CliRunner\n"
        "from koodrive_nb import cli\n"
        "ran = CliRunner().invoke(cli.main, ['sweep', 'users.csv', '-o', 'sweeps', '--sandbox'])\n"
        "import pyarrow\n"
        "print(ran.exit_code, pyarrow.default_memory_pool().backend_name)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert told.stdout == "0 system\n"


@pytest.mark.usefixtures("at_the_command_line")
def test_the_command_tells_what_failed_and_how_to_go_on(service, fleet, client, monkeypatch):
    pd.DataFrame({"user_id": IDS}).to_csv("users.csv", index=False)
    fleet.first = failing(service, "u007", status=404)
    run = ["sweep", "users.csv", "-o", "sweeps"]
    ran = CliRunner().invoke(cli.main, run)
    assert ran.exit_code == 3
    assert "1 of 60 users are left: user u007" in ran.stderr
    assert "1 will not come by asking again (1 HTTP 404); 0 may." in ran.stderr
    assert "kept in sweeps; --partial publishes without them, and its table of users" in ran.stderr
    fleet.first = failing(service, "u007")
    ran = CliRunner().invoke(cli.main, run)
    assert (
        "the same command asks for these alone; --partial publishes without them.\n" in ran.stderr
    )
    fleet.first = failing(service, "u007", status=404)
    with monkeypatch.context() as patched:
        patched.setattr(parts.Parts, "note", interrupted)
        ran = CliRunner().invoke(cli.main, run)
    assert ran.exit_code == 130
    assert "the same command goes on" in ran.stderr
    ran = CliRunner().invoke(cli.main, [*run, "--partial"])
    assert ran.exit_code == 3
    assert "Incomplete: sweeps has Snapshot(" in ran.stderr
    assert len(kd.snapshots.Snapshots("sweeps").read()) == 177


def interrupted(self, piece):
    raise KeyboardInterrupt
