"""What the README says is what the project does."""

import re
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import koodrive_nb as kd
from koodrive_nb import cli
from koodrive_nb.analysis.policy_files import Policy

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_column_table_is_up_to_date():
    begin, end = "<!-- koodrive-nb schema records -->\n", "<!-- end -->"
    stored = README.partition(begin)[2].partition(end)[0]
    printed = CliRunner().invoke(cli.main, ["schema", "records"]).output
    assert stored == printed, "put what `koodrive-nb schema records` prints between the comments"


def test_the_python_examples_run_one_after_the_other(capsys):
    names = {}
    for example in fenced("python"):
        exec(compile(example, "README.md", "exec"), names)
    assert capsys.readouterr().out == ""


def test_ci_runs_the_test_command_as_it_is_printed():
    install_and_test = next(block for block in fenced("console") if "pytest" in block)
    assert install_and_test in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_public_error_is_explained():
    for name in kd.__all__:
        if name.endswith("Error") and name != "KooDriveError":
            assert f"`{name}`" in README


def test_the_workflows_call_what_there_is(pytestconfig):
    workflow, pipeline = (yaml.safe_load(block) for block in fenced("yaml"))
    steps = workflow["jobs"]["validate"]["steps"]
    extras = re.findall(r"'koodrive_nb\[(\w+)\]'", README)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras) <= set(known["optional-dependencies"])
    commands = [step["run"] for step in steps if "run" in step] + pipeline["notebooks"]["script"]
    options = [
        word for line in commands for word in shlex.split(line) if word.startswith("--koodrive")
    ]
    assert [command.split()[0] for command in commands] == ["pip", "pytest"] * 2
    assert options == ["--koodrive-nb"] * 2
    assert pytestconfig.getoption("--koodrive-nb") is False
    (report,) = re.findall(r"--junitxml=(\S+)", commands[-1])
    assert pipeline["notebooks"]["artifacts"]["reports"]["junit"] == report
    for block in fenced("yaml"):
        assert len(block.splitlines()) <= 12


def test_the_commands_for_notebooks_are_there():
    for line in re.findall(r"^koodrive-nb (notebooks .+?) notebooks", README, re.MULTILINE):
        assert CliRunner().invoke(cli.main, [*line.split(), "--help"]).exit_code == 0


def test_the_example_of_a_policy_is_one_and_shows_its_defaults():
    example = next(block for block in fenced("toml") if "[controls]" in block)
    shown = tomllib.loads(example)
    read = Policy.read(shown)
    left_out = {"scope": shown["scope"], "tz": shown["tz"], "controls": {}}
    defaults = Policy.read(left_out)
    assert defaults == replace(read, limits=defaults.limits)
    assert defaults.limits.items() <= read.limits.items()


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?:)([^)]+)\)", README))
def test_every_relative_link_leads_somewhere(target):
    assert (ROOT / target).exists()


def test_the_constraints_name_versions_and_nothing_else():
    for file in ("constraints.txt", "lowest.txt"):
        lines = (ROOT / ".ci" / file).read_text(encoding="utf-8").splitlines()
        for line in lines:
            assert re.fullmatch(r"#.*|[A-Za-z0-9_.-]+==[0-9A-Za-z.]+", line), line


def test_the_story_of_the_sandbox_has_the_numbers_that_its_notebook_computes():
    stored = (ROOT / "notebooks" / "03_exposure.ipynb").read_text(encoding="utf-8")
    told = re.search(r"(\d+)% of the backups of four weeks completed, yet (\d+)% of", stored)
    sentence = (
        rf"{told[1]} % of the backups of four weeks completed, and\s{told[2]} %\sof the devices"
    )
    assert re.search(sentence, README)
