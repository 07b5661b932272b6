"""What is missing, cut, altered or of another version is told by name, and nothing else breaks."""

import json
import zlib

import pytest

import koodrive_nb as kd

NAME = "snapshot=20251217T083000Z"
RECORDS = f"{NAME}/records/part-000000.parquet"


@pytest.fixture
def folder(build, snapshots, tmp_path):
    snapshots.write(build({"42": {str(n): n % 3 for n in range(1, 60)}}))
    return tmp_path / "fleet"


def test_a_missing_file_is_named(folder, snapshots):
    (folder / RECORDS).unlink()
    for ask in (snapshots.read, snapshots.scan, snapshots.history):
        with pytest.raises(kd.SnapshotError, match=f"{RECORDS} in .* is missing"):
            ask()
    assert len(snapshots.read("devices")) == 1


def test_a_file_that_was_cut_is_named(folder, snapshots):
    path = folder / RECORDS
    path.write_bytes(path.read_bytes()[:-9])
    for ask in (snapshots.read, snapshots.scan):
        with pytest.raises(kd.SnapshotError, match=f"{RECORDS} in .* bytes, not"):
            ask()


@pytest.mark.parametrize("place", [1, 0.1, 0.3, 0.9, -6])
def test_a_file_that_was_altered_is_named(folder, snapshots, place):
    path = folder / RECORDS
    content = bytearray(path.read_bytes())
    content[int(len(content) * place) if isinstance(place, float) else place] ^= 0x5A
    path.write_bytes(content)
    with pytest.raises(kd.SnapshotError, match=f"{RECORDS} in .* was altered"):
        snapshots.read()


def test_a_file_of_another_snapshot_is_named(folder, snapshots):
    path, manifest = folder / RECORDS, folder / NAME / "manifest.json"
    other = (folder / NAME / "devices" / "part-000000.parquet").read_bytes()
    path.write_bytes(other)
    facts = json.loads(manifest.read_text())
    facts["files"]["records/part-000000.parquet"].update(bytes=len(other), crc32=zlib.crc32(other))
    manifest.write_text(json.dumps(facts))
    with pytest.raises(kd.SnapshotError, match=f"{RECORDS} in .* other columns or rows"):
        snapshots.read()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 0}, "an older version that is no longer read: sweep again"),
        ({"schema_version": 2}, "a newer version of this package: update koodrive_nb"),
        ({"schema_version": "1"}, "is damaged"),
        ({"records": -1}, "is not what this version writes"),
        ({"source": "http://127.0.0.1"}, "is not what this version writes"),
        ({"began_at": "yesterday"}, "is not what this version writes"),
        (
            {"files": {"records/../../x.parquet": {"bytes": 1, "crc32": 1, "rows": 1}}},
            "is not what",
        ),
        ({"ledger": None}, "is not what this version writes"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(folder, snapshots, change, said):
    manifest = folder / NAME / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    for ask in (snapshots.list, snapshots.read):
        with pytest.raises(kd.SnapshotError, match=f"{NAME}/manifest.json in .* {said}"):
            ask()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 9_999])
def test_a_manifest_that_is_no_manifest_is_refused(folder, snapshots, content):
    (folder / NAME / "manifest.json").write_bytes(content)
    with pytest.raises(kd.SnapshotError, match=r"manifest.json in .* is damaged"):
        snapshots.read()


def test_what_is_not_published_is_seen_by_nobody(folder, snapshots, build):
    (folder / "snapshot=20260101T000000Z" / "records").mkdir(parents=True)
    (folder / "snapshot=of mine").mkdir()
    assert [*snapshots.list()["snapshot"]] == ["20251217T083000Z"]
    assert len(snapshots.read()) == 59


def _without(facts, dataset):
    return {path: file for path, file in facts["files"].items() if not path.startswith(dataset)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda facts: {"files": {}}, "its files have 0 records, not 59"),
        (lambda facts: {"files": _without(facts, "devices")}, "have 0 devices"),
        (lambda facts: {"records": 60}, "have 59 records, not 60"),
        (lambda facts: {"users": 2}, "have 1 users, not 2"),
        (lambda facts: {"users": 2**70}, "Expected `int`"),
        (lambda facts: {"source": "x" * 10**6}, "is not what this version writes"),
    ],
    ids=range(6),
)
def test_a_manifest_that_contradicts_its_files_is_refused(folder, snapshots, change, said):
    manifest = folder / NAME / "manifest.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(facts | change(facts)))
    for ask in (snapshots.list, snapshots.read, snapshots.scan):
        with pytest.raises(kd.SnapshotError, match=said) as caught:
            ask()
        assert len(str(caught.value)) < 1_000
