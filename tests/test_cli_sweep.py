"""`koodrive-nb sweep`, where somebody types what it was not made for."""

import json
from types import SimpleNamespace

import pyarrow.fs as pafs
import pytest
from click.testing import CliRunner

import koodrive_nb as kd
from koodrive_nb import cli
from koodrive_nb.snapshots import locations

NEEDED = ("KOODRIVE_ENDPOINT", "KOODRIVE_USER_ID", "KOODRIVE_TOKEN", "KOODRIVE_APP_ID")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "system")  # lest it be left to other tests
    for name in NEEDED:
        monkeypatch.delenv(name, raising=False)
    kd.sandbox.users().head(3).to_csv("users.csv", index=False)
    return tmp_path


def run(*arguments, sandbox=True):
    options = ["--sandbox"] if sandbox else []
    return CliRunner().invoke(cli.main, ["sweep", "users.csv", *options, *arguments])


def test_a_sweep_into_a_store_keeps_its_draft_on_this_machine(folder, monkeypatch):
    (folder / "bucket").mkdir()
    store = pafs.SubTreeFileSystem(str(folder / "bucket"), pafs.LocalFileSystem())
    opened = SimpleNamespace(from_uri=lambda uri: (store, "fleet"))
    monkeypatch.setattr(locations, "pafs", SimpleNamespace(**vars(pafs) | {"FileSystem": opened}))
    ran = run("-o", "s3://bucket/fleet")
    assert ran.exit_code == 1
    assert "say where the draft is to lie on this machine: --drafts FOLDER" in ran.stderr
    ran = run("-o", "s3://bucket/fleet", "--drafts", "drafts")
    assert ran.exit_code == 0, ran.output
    assert len(list((folder / "bucket" / "fleet").glob("snapshot=*/manifest.json"))) == 1
    assert (folder / "drafts" / ".lock").exists()


@pytest.mark.parametrize("place", ["s3:/b/x", ""])
def test_a_slip_of_typing_leaves_nothing_behind(folder, place):
    before = sorted(folder.iterdir())
    assert run("-o", place).exit_code == 1
    assert sorted(folder.iterdir()) == before


def test_what_goes_wrong_is_said_in_the_words_of_the_command(folder, monkeypatch):
    said = [run("-o", "sweeps", sandbox=False)]
    said.append(run("-o", "sweeps", "--drafts", "drafts"))
    draft = folder / "sweeps" / ".draft"
    for name in ("records", "devices", "users"):
        (draft / name).mkdir(parents=True)
    question = {"users": 3, "source": "sandbox", "privacy": "names", "users_in_a_part": 1_000}
    other = {"schema_version": 1, "question": question | {"digest": 1}, "facts": {}}
    for content in ("{", json.dumps(other)):
        (draft / "draft.json").write_text(content)
        said.append(run("-o", "sweeps"))
    for name, value in zip(NEEDED, ("https://localhost", "u", "t"), strict=False):
        monkeypatch.setenv(name, value)
    said.append(run("-o", "sweeps", sandbox=False))
    monkeypatch.setenv("KOODRIVE_APP_ID", "a")
    monkeypatch.setenv("KOODRIVE_APP_SECRET", "b")
    said.append(run("-o", "sweeps", sandbox=False))
    wanted = (
        "in the environment. To try without an account: --sandbox needs none.",
        "Error: --drafts is for a URI",
        "--restart discards the draft.",
        (
            "another list of users or service): finish that one with the list and the options that "
            "began it, choose another folder, or discard it with --restart."
        ),
        "set KOODRIVE_APP_ID and KOODRIVE_APP_SECRET in the place of KOODRIVE_TOKEN to see others.",
        "unset those that shall not count.",
    )
    for ran, words in zip(said, wanted, strict=True):
        assert ran.exit_code == 1
        assert words in ran.stderr
        assert not any(call in ran.stderr for call in ("kd.", "=True", "auth=", "connect("))


def test_what_is_left_out_of_a_list_of_users_is_told(folder):
    lines = (folder / "users.csv").read_text().splitlines()
    listed = [f"{line},x" for line in [*lines, lines[2], lines[1]]]
    (folder / "users.csv").write_text("\n".join([f"{lines[0]},outcome", *listed[1:]]))
    ran = run("-o", "sweeps")
    assert ran.exit_code == 0
    assert "users.csv has ids that came before in line 5, 6: each counts once" in ran.stderr
    assert "Not kept of users.csv: outcome. Snapshots have columns of that name" in ran.stderr
    assert len(kd.snapshots.Snapshots("sweeps").read("users")) == 3
