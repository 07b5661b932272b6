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
    with pytest.raises(kd.InvalidParameterError, match="a folder of this machine"):
        kd.snapshots.Snapshots(URI, drafts=URI)


def test_no_message_has_the_keys_in_a_uri(bucket, build):
    with pytest.raises(kd.SnapshotError, match="in s3://bucket/fleet yet") as caught:
        kd.snapshots.Snapshots(URI).read()
    assert "5ecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("nothing://u:5ecret@host/x", "nothing://host/x is no URI that pyarrow can open"),
        ("s3://key:5ecret@b/x?odd=1", r"s3://b/x is .* open \(Unexpected query .* 'odd'\)\."),
        ("s3://key:5ec/ret@b/x", r"s3://b/x is .* open \(Cannot parse URI: 's3://b/x'"),
        ("s3:///x?access=5ecret", r"s3:/+x is .* open \(Missing bucket name in S3 URI\)"),
        *(
            (f"nothing://k:5ecret{mark}5ecret@b/x", "nothing://b/x is no URI that pyarrow can open")
            for mark in "/?#@"
        ),
    ],
)
def test_a_uri_that_leads_nowhere_is_refused_with_its_cause_and_without_its_keys(uri, said):
    with pytest.raises(kd.InvalidParameterError, match=said) as caught:
        kd.snapshots.Snapshots(uri)
    assert "5ec" not in str(caught.value)


def test_a_cause_that_names_a_key_is_not_told(monkeypatch):
    def from_uri(uri):
        raise OSError("no such key as 5ec/ret")

    known = SimpleNamespace(**vars(pafs) | {"FileSystem": SimpleNamespace(from_uri=from_uri)})
    monkeypatch.setattr(locations, "pafs", known)
    with pytest.raises(kd.InvalidParameterError, match=r"pyarrow can open\. Give a path"):
        kd.snapshots.Snapshots("s3://key:5ec%2Fret@b/x")


@pytest.mark.parametrize(
    "place", ["s3:/b/x", "s3:b", "S4:/x", "file:/x", "", "  ", "~nobody-here/x"]
)
def test_a_slip_of_typing_makes_no_folder_with_an_odd_name(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for ask in (
        lambda: kd.snapshots.Snapshots(place),
        lambda: kd.snapshots.Snapshots("gs://bucket/x", drafts=place),
    ):
        with pytest.raises(kd.InvalidParameterError, match=r"without two slashes|empty|in full"):
            ask()


def test_a_file_is_no_folder_of_snapshots(tmp_path):
    (tmp_path / "users.csv").write_text("user_id")
    for place in (tmp_path / "users.csv", "/dev/null"):
        with pytest.raises(kd.InvalidParameterError, match="is a file: snapshots need a folder"):
            kd.snapshots.Snapshots(place)


def test_a_home_is_found_and_other_folders_may_be_called_as_they_like(build, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for place, folder in {"~/x": "home/x", "./s3:": "s3:", "a:b": "a:b", "./~": "~"}.items():
        kd.snapshots.Snapshots(place).write(build({"42": {"1": 0}}))
        assert (tmp_path / folder / f"snapshot={NAME}").is_dir()


@pytest.mark.parametrize("place", [None, 7, b"folder"])
def test_what_is_no_path_is_refused(place):
    with pytest.raises(kd.InvalidParameterError, match="takes a folder or a URI"):
        kd.snapshots.Snapshots(place)


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
