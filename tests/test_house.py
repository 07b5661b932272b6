"""The rules of the house, each checked by the tool that knows it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import koodrive_nb as kd

ROOT = Path(__file__).parents[1]


def run(*command):
    tool = Path(sys.executable).with_name(command[0])
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    return subprocess.run(
        [tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )


def python(code):
    result = run(Path(sys.executable).name, "-c", code)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize(
    "command",
    [
        "ruff check .",
        "ruff format --check .",
        "mypy",
        "lint-imports",
        "interrogate -q koodrive_nb",
    ],
)
def test_the_tree_passes(command):
    result = run(*command.split())
    assert result.returncode == 0, result.stdout + result.stderr


def test_completion_offers_the_public_names_and_each_exists():
    assert dir(kd) == sorted(kd.__all__)
    for name in kd.__all__:
        assert getattr(kd, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = kd.nonsense


def test_importing_costs_at_most_30_ms_above_the_bare_interpreter():
    measured = [
        float(
            python(
                "import time; start = time.perf_counter(); import koodrive_nb; "
                "print(time.perf_counter() - start)"
            )
        )
        for _ in range(5)
    ]
    assert min(measured) <= 0.030


def test_fetching_imports_neither_plotly_nor_ipywidgets():
    loaded = python(
        "import sys, koodrive_nb as kd; kd.connect('sandbox').records(); "
        "print({'plotly', 'ipywidgets', 'IPython', 'narwhals'} & set(sys.modules))"
    )
    assert loaded == "set()"


def test_no_module_of_the_package_is_over_300_lines():
    for path in (ROOT / "koodrive_nb").rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path


def test_every_silenced_check_has_its_reason_beside_it():
    silenced = re.compile(r"# (?:noqa|type: ignore|pragma: no cover)(?P<rest>.*)")
    for path in [*(ROOT / "koodrive_nb").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        if path.name == Path(__file__).name:
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            found = silenced.search(line)
            assert not found or re.search(r" --? \w|  # \w", found["rest"]), f"{path}: {line}"
