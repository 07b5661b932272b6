"""The same snapshots on other filesystems, also where folders cannot be moved."""

import os
from types import SimpleNamespace

import pyarrow.fs as pafs
import pytest

import koodrive_nb as kd
from koodrive_nb.snapshots import locations

NAME = "20251217T083000Z"
URI = "s3://AKIAKEY:5ecret@bucket/fleet?region=eu"


class Objects(pafs.FileSystemHandler):
    """A store below a folder in which folders do not move, and at most `left` files still do."""

    def __init__(self, folder):
        self.below = pafs.SubTreeFileSystem(str(folder), pafs.LocalFileSystem())
        self.moved, self.left = [], 1_000

    def get_type_name(self):
        return "objects"

    def normalize_path(self, path):
        return path

    def get_file_info(self, paths):
        return self.below.get_file_info(paths)

    def get_file_info_selector(self, selector):
        return self.below.get_file_info(selector)

    def create_dir(self, path, recursive):
        self.below.create_dir(path, recursive=recursive)

    def delete_dir(self, path):
        self.below.delete_dir(path)

    def delete_dir_contents(self, path, missing_dir_ok):
        raise NotImplementedError

    def delete_root_dir_contents(self):
        raise NotImplementedError

    def delete_file(self, path):
        self.below.delete_file(path)

    def move(self, source, target):
        is_folder = self.below.get_file_info(source).type == pafs.FileType.Directory
        if is_folder or len(self.moved) == self.left:
            raise OSError("NoSuchKey")
        self.moved.append(target)
        self.below.move(source, target)

    def copy_file(self, source, target):
        self.below.copy_file(source, target)

    def open_input_stream(self, path):
        return self.below.open_input_stream(path)

    def open_input_file(self, path):
        return self.below.open_input_file(path)

    def open_output_stream(self, path, metadata):
        return self.below.open_output_stream(path)

    def open_append_stream(self, path, metadata):
        raise NotImplementedError


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Let every URI lead to one store."""
    (tmp_path / "bucket").mkdir()
    store = Objects(tmp_path / "bucket")
    opened = SimpleNamespace(from_uri=lambda uri: (pafs.PyFileSystem(store), "fleet"))
    known = SimpleNamespace(**vars(pafs) | {"FileSystem": opened})
    monkeypatch.setattr(locations, "pafs", known)
    return store


@pytest.fixture
def remote(bucket, tmp_path):
    return kd.snapshots.Snapshots(URI, drafts=tmp_path / "drafts")


def test_what_is_written_to_a_store_is_read_and_scanned_there(remote, bucket, build, tmp_path):
    fleet = build({"42": {"1": 0, "2": 1}})
    assert remote.write(fleet).name == NAME
    # Readers wait for the manifest, so it comes when all else is there.
    assert bucket.moved[-1] == f"fleet/snapshot={NAME}/manifest.json"
    assert [*remote.read()["record_id"]] == ["1", "2"]
    assert len(remote.scan().fetchall()) == 2
    assert len(remote.scan(engine="polars").collect()) == 2
    assert len(remote.history()) == 2
    assert remote.write(fleet).name == f"{NAME}-2"
    assert [path.name for path in (tmp_path / "drafts").iterdir()] == [".lock"]
    assert not (tmp_path / "bucket" / "fleet" / ".draft").exists()


def test_an_upload_that_breaks_off_is_no_snapshot_and_the_next_one_takes_its_place(
    remote, bucket, build
):
    fleet = build({"42": {"1": 0}})
    bucket.left = 2
    with pytest.raises(kd.SnapshotError, match=r"NoSuchKey.*Nothing was published"):
        remote.write(fleet)
    assert len(remote.list()) == 0
    bucket.left = 1_000
    assert remote.write(fleet).name == NAME
    assert len(remote.read()) == 1


def test_writing_to_a_store_needs_a_folder_for_what_is_not_published(bucket, build, tmp_path):
    with pytest.raises(kd.InvalidParameterError, match="drafts="):
        kd.snapshots.Snapshots(URI).write(build({"42": {"1": 0}}))
    with pytest.raises(kd.InvalidParameterError, match="in the folder itself"):
        kd.snapshots.Snapshots(tmp_path, drafts=tmp_path)


def test_no_message_has_the_keys_in_a_uri(bucket, build):
    with pytest.raises(kd.SnapshotError, match="in s3://bucket/fleet yet") as caught:
        kd.snapshots.Snapshots(URI).read()
    assert "5ecret" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "nothing://u:5ecret@host/x",
        "s3://k:5ecret@b/x?odd=1",
        "nothing://k:5ecret/5ecret@b/x",
        "nothing://k:5ecret?5ecret@b/x",
        "nothing://k:5ecret#5ecret@b/x",
        "nothing://k:5ecret@5ecret@b/x",
    ],
)
def test_a_uri_that_leads_nowhere_is_refused_without_its_keys(uri):
    with pytest.raises(kd.InvalidParameterError, match="no URI that pyarrow can open") as caught:
        kd.snapshots.Snapshots(uri)
    assert "5ecret" not in str(caught.value)


@pytest.mark.parametrize("place", [None, 7, b"folder"])
def test_what_is_no_path_is_refused(place):
    with pytest.raises(kd.InvalidParameterError, match="takes a folder or a URI"):
        kd.snapshots.Snapshots(place)


@pytest.mark.parametrize("place", ["", " ", "s3:/bucket/folder", "file:/folder"])
def test_a_slip_of_the_keys_makes_no_folder(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kd.InvalidParameterError, match="is no folder"):
        kd.snapshots.Snapshots(place)
    assert [*tmp_path.iterdir()] == []


def test_a_tilde_is_the_home_folder(build, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    kd.snapshots.Snapshots("~/kept").write(build({"42": {"1": 0}}))
    assert len(kd.snapshots.Snapshots(tmp_path / "kept").read()) == 1


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_manifest_that_is_no_file_is_refused_and_not_waited_for(build, tmp_path, make):
    snapshots = kd.snapshots.Snapshots(tmp_path)
    made = snapshots.write(build({"42": {"1": 0}}))
    manifest = tmp_path / f"snapshot={made.name}" / "manifest.json"
    manifest.unlink()
    make(manifest)
    with pytest.raises(kd.SnapshotError, match="no file, or larger"):
        snapshots.list()


def test_a_link_to_itself_among_the_parts_is_not_followed(build, tmp_path):
    snapshots = kd.snapshots.Snapshots(tmp_path)
    made = snapshots.write(build({"42": {"1": 0}}))
    for name in "ab":
        (tmp_path / f"snapshot={made.name}" / "records" / name).symlink_to(".")
    assert len(snapshots.read()) == 1


def test_a_uri_of_this_machine_is_a_folder(build, tmp_path):
    kd.snapshots.Snapshots(tmp_path.as_uri()).write(build({"42": {"1": 0}}))
    assert len(kd.snapshots.Snapshots(tmp_path).read()) == 1
