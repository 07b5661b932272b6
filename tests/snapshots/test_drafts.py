"""What is written is there whole or not at all, whatever stops its writer."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

import koodrive_nb as kd
from koodrive_nb.snapshots import layouts, manifests

QUESTION = {"users": 2, "digest": "5f" * 32}
BEGAN = {"began_at": "2025-12-17T08:00:00.123+00:00"}
ENDED = {"ended_at": "2025-12-17T09:00:00+00:00", "source": "sandbox", "privacy": "names"}
FRAMES = ("records", "devices", "users")


def frames(fleet):
    return {name: getattr(fleet, name) for name in FRAMES}


def tables(draft, number):
    """Read a part back as it is stored."""
    path = f"part-{number:06}.parquet"
    return {name: pq.read_table(draft.folder / name / path, partitioning=None) for name in FRAMES}


@pytest.fixture
def fleet(build):
    return build({"43": {"2": 1, "1": 0}, "42": {"9": 2}}, regions=["north", None])


def test_a_part_is_read_back_with_the_types_of_the_client_in_the_order_of_its_users(
    snapshots, fleet
):
    with snapshots._draft(QUESTION, BEGAN) as draft:
        assert draft.parts() == set()
        draft.add(7, frames(fleet))
        assert draft.parts() == {7}
        back = {name: layouts.to_frame(rows, name) for name, rows in tables(draft, 7).items()}
    for name in FRAMES:
        keys = {"records": "create_time", "devices": "device_create_time", "users": "user_id"}
        ordered = getattr(fleet, name).sort_values(["user_id", keys[name]], ignore_index=True)
        pd.testing.assert_frame_equal(back[name], ordered.astype(back[name].dtypes))


def test_rows_as_they_are_stored_make_the_same_part_as_frames(snapshots, fleet):
    with snapshots._draft(QUESTION, BEGAN) as draft:
        draft.add(0, frames(fleet))
        stored = {
            name: rows.take([*range(len(rows))][::-1]) for name, rows in tables(draft, 0).items()
        }
        draft.add(1, stored)
        for name in FRAMES:
            first, second = sorted((draft.folder / name).iterdir())
            assert first.read_bytes() == second.read_bytes()


def test_rows_that_lack_a_column_are_refused_and_nothing_is_written(snapshots, fleet):
    with snapshots._draft(QUESTION, BEGAN) as draft:
        draft.add(0, frames(fleet))
        lacking = tables(draft, 0)
        lacking["devices"] = lacking["devices"].drop_columns(["device_os"])
        with pytest.raises(kd.InvalidParameterError, match="missing: device_os"):
            draft.add(1, lacking)
        assert draft.parts() == {0}


def test_a_draft_goes_on_after_its_writer_with_the_facts_that_it_began_with(snapshots, fleet):
    with snapshots._draft(QUESTION, BEGAN) as draft:
        draft.add(0, frames(fleet))
    with snapshots._draft(QUESTION, {"began_at": "2030-01-01T00:00:00Z"}) as draft:
        assert (draft.parts(), draft.facts) == ({0}, BEGAN)
        assert str(draft.publish(ENDED, [])) == (
            "Snapshot(20251217T080000Z, 2 users, 3 records, complete)"
        )
    with snapshots._draft(QUESTION, BEGAN) as draft:
        assert draft.parts() == set()


def test_a_killed_writer_lets_go_and_what_it_wrote_is_there(snapshots, fleet, tmp_path):
    with snapshots._draft(QUESTION, BEGAN) as draft:
        draft.add(0, frames(fleet))
    code = (
        "import sys, time, koodrive_nb as kd, pyarrow.parquet as pq\n"
        "with kd.snapshots.Snapshots(sys.argv[1])._draft(eval(sys.argv[2])) as draft:\n"
        "    path = lambda name: draft.folder / name / 'part-000000.parquet'\n"
        "    names = ('records', 'devices', 'users')\n"
        "    draft.add(1, {name: pq.read_table(path(name), partitioning=None) for name in names})\n"
        "    print(flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "fleet", repr(QUESTION)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        try:
            writer.stdout.readline()
            with pytest.raises(kd.SnapshotError, match="Another sweep or write is at work"):
                snapshots.write(fleet)
        finally:
            writer.kill()
    with snapshots._draft(QUESTION) as draft:
        assert draft.parts() == {0, 1}


def test_a_draft_of_another_question_is_kept_until_it_is_discarded(snapshots, fleet):
    with snapshots._draft(QUESTION, BEGAN) as draft:
        draft.add(0, frames(fleet))
    other = QUESTION | {"users": 3, "digest": "6f" * 32}
    said = r"another question \(users 2, not 3; another list of users or service\).*restart=True"
    with pytest.raises(kd.SnapshotError, match=said), snapshots._draft(other):
        pass
    with snapshots._draft(QUESTION) as draft:
        assert draft.parts() == {0}
    with snapshots._draft(other, BEGAN, restart=True) as draft:
        assert draft.parts() == set()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"schema_version": 2}'])
def test_a_draft_that_cannot_be_read_is_kept_until_it_is_discarded(snapshots, tmp_path, content):
    with snapshots._draft(QUESTION, BEGAN):
        (tmp_path / "fleet" / ".draft" / "draft.json").write_bytes(content)
    with pytest.raises(kd.SnapshotError, match="restart=True"), snapshots._draft(QUESTION):
        pass
    with snapshots._draft(QUESTION, BEGAN, restart=True) as draft:
        assert draft.facts == BEGAN


def test_what_a_kill_left_half_written_is_not_published(snapshots, fleet):
    with snapshots._draft(QUESTION, BEGAN) as draft:
        draft.add(0, frames(fleet))
        draft.add(1, frames(fleet))
        (draft.folder / "users" / "part-000001.parquet").unlink()
        (draft.folder / "records" / ".0123.part").write_bytes(b"half")
        (draft.folder / "pieces").mkdir()
        assert draft.parts() == {0}
        manifest = draft.publish(ENDED, []).manifest
    files = {f"{name}/part-000000.parquet" for name in FRAMES}
    assert set(manifest["files"]) == files
    published = snapshots._place.folder / "snapshot=20251217T080000Z"
    found = {str(path.relative_to(published)) for path in published.rglob("*") if path.is_file()}
    assert found == files | {"manifest.json"}


def test_an_empty_draft_is_not_published(snapshots):
    said = "no part to publish"
    with snapshots._draft(QUESTION, BEGAN) as draft, pytest.raises(kd.SnapshotError, match=said):
        draft.publish(ENDED, [])


def test_rows_of_other_users_than_were_asked_for_are_not_published(snapshots, fleet):
    with snapshots._draft(QUESTION, BEGAN) as draft:
        for number in (0, 1):
            draft.add(number, frames(fleet))
        with pytest.raises(kd.SnapshotError, match=r"4 users where 2 were.*restart=True"):
            draft.publish(ENDED, [])
    assert len(snapshots.list()) == 0


def test_a_part_that_the_system_refuses_to_read_is_not_taken_for_broken(
    snapshots, fleet, monkeypatch
):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    with snapshots._draft(QUESTION, BEGAN) as draft:
        draft.add(0, frames(fleet))
        with monkeypatch.context() as patched:
            patched.setattr(pq, "read_metadata", refuse)
            with pytest.raises(PermissionError):
                draft.parts()
        assert draft.parts() == {0}


def test_a_publication_that_fails_leaves_the_draft(snapshots, fleet, monkeypatch):
    def refuse(self, target):
        raise OSError(errno.EIO, "Input/output error")

    with snapshots._draft(QUESTION, BEGAN) as draft:
        draft.add(0, frames(fleet))
        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", refuse)
            with pytest.raises(kd.SnapshotError, match=r"Input/output error.*Nothing was pub"):
                draft.publish(ENDED, [])
    assert len(snapshots.list()) == 0
    with snapshots._draft(QUESTION) as draft:
        assert draft.publish(ENDED, []).manifest["records"] == 3


def test_a_full_disk_publishes_nothing_and_keeps_what_is_there(snapshots, fleet):
    with snapshots._draft(QUESTION, BEGAN) as draft:
        draft.add(0, frames(fleet))
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
        try:
            for number in (0, 1):
                with pytest.raises(kd.SnapshotError, match="File too large"):
                    draft.add(number, frames(fleet))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert draft.parts() == {0}
        assert len(tables(draft, 0)["records"]) == 3
        assert draft.publish(ENDED, []).manifest["records"] == 3


def test_a_folder_that_is_only_for_reading_is_refused_and_can_be_read(
    snapshots, fleet, tmp_path, monkeypatch
):
    snapshots.write(fleet)
    (tmp_path / "fleet").chmod(0o500)
    if os.geteuid() == 0:
        # The modes of files do not bind root.
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(kd.SnapshotError, match="Permission denied"):
        snapshots.write(fleet)
    assert len(snapshots.read()) == 3
    (tmp_path / "fleet").chmod(0o700)


def test_a_lock_that_leads_to_another_file_is_refused_and_that_is_left_as_it_is(
    snapshots, fleet, tmp_path
):
    (tmp_path / "thesis").write_text("precious")
    (tmp_path / "fleet").mkdir()
    (tmp_path / "fleet" / ".lock").symlink_to(tmp_path / "thesis")
    with pytest.raises(kd.SnapshotError, match="symbolic links"):
        snapshots.write(fleet)
    assert (tmp_path / "thesis").read_text() == "precious"


def test_the_ledger_is_summed_so_that_it_names_nobody():
    line = {"dataset": "records", "module": "album", "user_id": "42", "complete": True}
    line |= dict.fromkeys(("pages", "rows", "duplicates", "set_aside", "coerced"), 2)
    others = [line | {"complete": False}, line | {"dataset": "devices", "module": float("nan")}]
    devices, records = manifests.summed([line, *others])
    assert "42" not in str([devices, records])
    assert (devices["module"], devices["rows"], devices["complete"]) == (None, 2, True)
    assert (records["module"], records["rows"], records["complete"]) == ("album", 4, False)


@pytest.mark.parametrize("name", ["", *FRAMES, "pieces"])
def test_a_draft_that_leads_elsewhere_is_not_taken_and_nothing_there_is_touched(
    snapshots, fleet, tmp_path, name
):
    with snapshots._draft(QUESTION, BEGAN) as draft:
        draft.add(0, frames(fleet))
    (draft.folder / "pieces").mkdir()
    elsewhere = tmp_path / "elsewhere"
    (draft.folder / name).rename(elsewhere)
    (elsewhere / "thesis.docx").write_bytes(b"years")
    (draft.folder / name).symlink_to(elsewhere)
    with (
        pytest.raises(kd.SnapshotError, match="by hand"),
        snapshots._draft(QUESTION, BEGAN) as draft,
    ):
        draft.publish(ENDED, [])
    assert (elsewhere / "thesis.docx").read_bytes() == b"years"


def test_a_draft_of_another_user_is_not_taken(snapshots, fleet, monkeypatch):
    with snapshots._draft(QUESTION, BEGAN) as draft:
        draft.add(0, frames(fleet))
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with (
        pytest.raises(kd.SnapshotError, match="of another user"),
        snapshots._draft(QUESTION, BEGAN),
    ):
        pass


def test_a_draft_that_others_may_look_into_is_closed_to_them(snapshots, fleet):
    with snapshots._draft(QUESTION, BEGAN) as draft:
        draft.add(0, frames(fleet))
    (draft.folder / "records").chmod(0o777)
    draft.folder.chmod(0o777)
    with snapshots._draft(QUESTION, BEGAN) as draft:
        found = [draft.folder, *(draft.folder / name for name in FRAMES)]
        assert {path.stat().st_mode & 0o777 for path in found} == {0o700}
