"""A notebook becomes files that others may see, or nothing at all."""

import json
import re
import stat
from pathlib import Path

import nbformat
import pandas as pd
import polars as pl
import pytest
from click.testing import CliRunner

import koodrive_nb as kd
from koodrive_nb import cli, privacy
from koodrive_nb.report import figures, guard, keys, page, past, probe, rendering


def test_the_page_asks_for_nothing_and_runs_only_its_own_scripts(rich):
    html = rich[0].path.read_text()
    assert html.count("plotly.js v") == 1
    assert len(html) < rendering.MAX_BYTES
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    own = html[: html.index("plotly.js v")]
    assert not re.search(r'\b(?:src|href)="(?!data:)', own)
    assert '<html lang="en">' in html
    assert "<main>" in html
    assert "<title>Backups of a week</title>" in html


def test_nothing_hostile_is_left_on_the_page(rich):
    html = rich[0].path.read_text()
    assert "<script>window.hacked" not in html
    assert "<img src=x" not in html
    assert "<b>bold</b>" in html
    assert "&lt;img src=x onerror=" in html


def test_figures_have_a_table_and_the_text_that_tells_of_them(rich):
    html = rich[0].path.read_text()
    assert html.count('<div class="plot" role="img"') == 2
    assert 'aria-label="&#34;&gt; bold' in html
    table = re.search(r'<details data-module="all"><summary>.*?</details>', html, re.DOTALL)[0]
    assert "backup records" in table
    assert "<td>completed</td>" in table


def test_one_control_offers_each_module_and_code_is_hidden(rich):
    html = rich[0].path.read_text()
    assert re.findall(r'name="module" value="(\w+)"', html) == [
        "all",
        "folder",
        "album",
        "address_book",
    ]
    assert '<pre class="code">' not in html
    assert "kd.connect" not in html


def test_the_numbers_lie_beside_it_with_their_types(rich, devices):
    report, numbers = rich
    assert report.failed
    assert report.complete
    assert numbers["parameters"] == {"source": "sandbox", "n": 7, "share": 0.5, "ids": None}
    assert numbers["sources"] == ["sandbox"]
    first = numbers["tables"]["headline"][0]
    assert first["window_start"] == "2025-12-08T00:00:00.000Z"
    assert first["why_not"] is None
    assert first["numerator"] == 60.0
    ids = [row["device_id"] for row in numbers["tables"]["devices"]]
    assert all(privacy.PSEUDONYM.fullmatch(one) for one in ids)


def test_pseudonyms_stand_for_everybody_and_their_author_can_look_up(rich, devices):
    report, numbers = rich
    html = report.path.read_text()
    assert not [one for one in devices["device_id"] if one in html]
    whom = [row["device_id"] for row in numbers["tables"]["devices"]]
    found = kd.report.lookup(whom, devices, key=report.path.with_name("privacy.key"))
    assert len(found) == 2


def test_the_history_keeps_one_row_for_each_window(rich):
    path = rich[0].path.with_name("kpis.parquet")
    former = pd.read_parquet(path)
    assert list(former["kpi"]) == ["protected", "stuck"]
    row = {"kpi": "protected", "value": 0.7, "definition": "RPO 7 d", "why_not": None}
    window = {"window_start": "2025-12-08T00:00:00Z", "window_end": "2025-12-15T00:00:00Z"}
    now = pd.Timestamp("2026-01-01", tz="UTC")
    path = path.with_name("again.parquet")
    former.to_parquet(path)
    path.write_bytes(past.appended(path, [row | window], now))
    again = past.read(path)
    assert list(again["kpi"]) == ["stuck", "protected"]
    assert list(again["value"]) == [0.03, 0.7]
    assert str(again["window_end"].dtype) == "datetime64[ms, UTC]"


def test_a_failing_cell_leaves_the_former_report(notebook, key, tmp_path, monkeypatch):
    monkeypatch.setenv("KOODRIVE_TOKEN", "0123456789secret")
    output = tmp_path / "report.html"
    output.write_text("former")
    path = notebook("import os", "raise ValueError('no ' + os.environ['KOODRIVE_TOKEN'])")
    with pytest.raises(kd.ReportError, match=r"Cell 4 of some.ipynb .*no report") as caught:
        kd.report.render(path, {"n": 3}, output, key=key)
    assert "secret)" in str(caught.value)
    assert "0123456789secret" not in str(caught.value)
    assert output.read_text() == "former"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["privacy.key", "report.html"]


def test_frames_with_names_are_refused_with_what_to_do(notebook, key):
    path = notebook(
        "import pandas as pd",
        "frame = pd.DataFrame({'device_id': ['1842862763295184641']})",
        "frame",
    )
    with pytest.raises(kd.ReportError, match=r"devices of frame: pass .* kd.report.protect"):
        kd.report.render(path, output=path.with_suffix(".html"), key=key)
    assert not path.with_suffix(".html").exists()


def test_parameters_that_say_whom_are_not_told(notebook, key):
    path = notebook()
    output = path.with_suffix(".html")
    kd.report.render(path, {"ids": "1842862763295184641"}, output, key=key)
    assert json.loads(output.with_suffix(".json").read_text())["parameters"]["ids"] == "(not shown)"
    path = notebook("print(ids)")
    with pytest.raises(kd.ReportError, match="devices of the parameters"):
        kd.report.render(path, {"ids": "1842862763295184641"}, output, key=key)


def test_secrets_and_paths_are_refused(notebook, key, monkeypatch):
    monkeypatch.setenv("KOODRIVE_TOKEN", "0123456789secret")
    path = notebook(
        "import os",
        "print(os.environ['KOODRIVE_TOKEN'], os.environ['KOODRIVE_PRIVACY_KEY'], '/home/ann/x')",
    )
    with pytest.raises(kd.ReportError) as caught:
        kd.report.render(path, output=path.with_suffix(".html"), key=key)
    assert "holds the value of KOODRIVE_TOKEN" in str(caught.value)
    assert "a long run of hex digits" in str(caught.value)
    assert "a path of a machine" in str(caught.value)
    assert not path.with_suffix(".html").exists()


def test_counts_alone_leave_out_lists_and_small_counts(notebook, key, tmp_path):
    listed = nbformat.v4.new_code_cell("'whom to call'", metadata={"tags": ["call-list"]})
    removed = nbformat.v4.new_markdown_cell("For authors", metadata={"tags": ["remove-cell"]})
    table = "import pandas as pd\npd.DataFrame({'n': [3, 12]})"
    whom = "pd.DataFrame({'device_id': ['device-abcdefgh2345']})"
    figure = "import plotly.graph_objects as go\ngo.Figure(go.Bar(x=['a'], y=[2]))"
    output = tmp_path / "report.html"
    path = notebook(removed, listed, table, whom, figure, "import koodrive_nb as kd\n" + NUMBERS)
    kd.report.render(path, output=output, key=key, privacy="counts")
    html, numbers = output.read_text(), json.loads(output.with_suffix(".json").read_text())
    assert "whom to call" not in html
    assert "For authors" not in html
    assert html.count("is left out") == 3
    assert "<td>&lt;5</td>" in html
    assert "<td>12</td>" in html
    assert numbers["tables"] == {"t": [{"n": "<5", "numerator": "<5", "value": None}]}
    assert numbers["left_out"] == ["whom"]
    assert "Counts alone" in html


NUMBERS = """kd.report.numbers(
    t=pd.DataFrame({'n': [3], 'numerator': [2.0], 'value': [0.2]}),
    whom=pd.DataFrame({'device_id': ['device-abcdefgh2345']}),
)"""


def test_incomplete_data_stamp_every_page_and_end_with_3(notebook, key, tmp_path):
    path = notebook(
        "import pandas as pd\nframe = pd.DataFrame({'n': [12]})",
        "frame.attrs['koodrive'] = {'source': 'live', 'complete': False}",
    )
    output = tmp_path / "report.html"
    result = CliRunner().invoke(
        cli.main, ["report", str(path), "-o", str(output), "--key", str(key), "--show-code"]
    )
    assert result.exit_code == 3, result.output
    html = output.read_text()
    assert '<p class="stamp" role="note">INCOMPLETE DATA</p>' in html
    assert "source: live, INCOMPLETE" in html
    assert '<pre class="code">' in html
    assert "plotly.js v" not in html
    assert json.loads(output.with_suffix(".json").read_text())["complete"] is False


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("m=3", "no parameter of this notebook; those that it has: source, n, share, ids"),
        ("n=much", "takes a int such as 2"),
        ("source=Bearer abcdefghijklmnopqrst", "looks like a secret"),
        ("source=0123456789secret", "looks like a secret"),
    ],
)
def test_unfit_parameters_are_refused(notebook, tmp_path, monkeypatch, given, why):
    monkeypatch.setenv("KOODRIVE_TOKEN", "0123456789secret")
    name, _, value = given.partition("=")
    with pytest.raises(kd.InvalidParameterError, match=why) as caught:
        kd.report.render(notebook(), {name: value}, tmp_path / "report.html", privacy="names")
    assert "0123456789secret" not in str(caught.value)


def test_texts_are_read_by_the_type_of_the_default(notebook):
    from koodrive_nb.report import parameters  # noqa: PLC0415 -- needed here alone

    book = nbformat.read(notebook(), as_version=4)
    given = {"source": "123", "n": "4", "share": "1", "ids": "['1842862763295184641']"}
    values = parameters.inject(book, given)
    assert values == {"source": "123", "n": 4, "share": 1, "ids": ["1842862763295184641"]}
    assert book.cells[2].metadata.tags == ["injected-parameters"]
    one = parameters.inject(nbformat.read(notebook(), 4), {"ids": "1842862763295184641"})
    assert one["ids"] == "1842862763295184641"
    with pytest.raises(kd.InvalidParameterError, match="plain value"):
        parameters.inject(book, {"ids": object()})


@pytest.mark.parametrize("text", ["", "another secret"])
def test_a_file_that_is_no_key_is_refused_before_anything_runs(notebook, key, text):
    key.write_text(text)
    with pytest.raises(kd.ConfigurationError, match="There is no key for pseudonyms in") as caught:
        kd.report.render(notebook("1"), output=key.with_name("a.html"), key=key)
    assert "another" not in str(caught.value)


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "_of_user", lambda: tmp_path / "config" / "privacy.key")
    made = keys.secret(None, create=True)
    assert re.fullmatch("[0-9a-f]{64}", made)
    assert keys.secret(None, create=True) == made
    path = tmp_path / "config" / "privacy.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(kd.ConfigurationError, match="cannot be read"):
        keys.secret(tmp_path / "none", create=False)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"notebook": "none.ipynb"}, "no notebook"),
        ({"output": "report.pdf"}, r"ends in \.html"),
        ({"privacy": "none"}, "takes one of"),
    ],
)
def test_unfit_arguments_are_refused(notebook, arguments, why):
    with pytest.raises(kd.InvalidParameterError, match=why):
        kd.report.render(**({"notebook": notebook()} | arguments))


def test_without_a_browser_a_pdf_is_refused_before_anything_runs(notebook, monkeypatch, tmp_path):
    monkeypatch.setattr(rendering.shutil, "which", lambda name: None)
    with pytest.raises(kd.ConfigurationError, match="Chromium or Chrome"):
        kd.report.render(notebook("1/0"), output=tmp_path / "report.html", pdf=True)


def test_what_a_notebook_had_stored_is_not_in_its_report(notebook, key, tmp_path):
    former = [nbformat.v4.new_output("stream", text="Omar's phone")]
    cells = [
        nbformat.v4.new_code_cell("1", metadata={"tags": ["skip-execution"]}, outputs=former),
        nbformat.v4.new_code_cell("", outputs=former),
    ]
    output = tmp_path / "report.html"
    kd.report.render(notebook(*cells), output=output, key=key)
    assert "Omar" not in output.read_text()


def test_a_report_too_large_for_mail_is_refused(notebook, tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "MAX_BYTES", 1000)
    with pytest.raises(kd.ReportError, match="show fewer rows"):
        kd.report.render(notebook(), output=tmp_path / "report.html", privacy="names")


def test_a_disk_that_is_full_leaves_both_files_as_they_were(tmp_path, monkeypatch):
    paths = [tmp_path / "a.html", tmp_path / "a.json"]
    for path in paths:
        path.write_text("former")
    writer = rendering._writer

    def full(content):
        def write(file):
            writer(content[:3])(file)
            if content == b"new json":
                raise OSError(28, "No space left on device")

        return write

    monkeypatch.setattr(rendering, "_writer", full)
    with pytest.raises(kd.InvalidParameterError, match="No space left"):
        rendering._put(dict(zip(paths, (b"new", b"new json"), strict=True)))
    assert [path.read_text() for path in paths] == ["former", "former"]
    assert len(list(tmp_path.iterdir())) == 2


def test_the_table_behind_a_figure_is_bounded_and_says_so():
    drawn = {"data": [{"type": "scatter", "name": "a<b>c</b>", "x": [*range(900)], "y": [1] * 900}]}
    heads, rows, count = figures.table(drawn | {"layout": {"xaxis": {"title": {"text": "day"}}}})
    assert heads == ["series", "day", "up"]
    assert rows[0] == ["a c", "0", "1"]
    assert (len(rows), count) == (500, 900)
    packed = {"x": {"dtype": "i1", "bdata": "AQID"}, "y": ["a", "b", "c"]}
    assert figures.table({"data": [packed]})[1] == [["", n, c] for n, c in zip("123", "abc")]  # noqa: B905 -- equal


def test_a_grid_is_written_cell_by_cell_with_the_words_of_its_axes():
    grid = {"type": "heatmap", "x": ["mon"], "y": [0, 1], "z": [[1], [None]], "text": [["●"], [""]]}
    layout = {"yaxis": {"tickvals": [0, 1], "ticktext": ["<b>phone</b>", "pc"]}}
    _, rows, count = figures.table({"data": [grid], "layout": layout})
    assert (rows, count) == ([["", "mon", "phone", "●"]], 1)


@pytest.mark.parametrize(
    ("trace", "layout", "is_few"),
    [
        ({"y": [12, 4]}, {}, True),
        ({"y": [12, 40], "customdata": [["album", "2 of 10"]]}, {}, True),
        ({"y": [12, 40], "customdata": [["album", "2.5 %", "1 h"]]}, {}, False),
        ({"y": [3.0, 90]}, {"yaxis": {"ticksuffix": " %"}}, False),
        ({"orientation": "h", "x": [12], "y": [3]}, {}, False),
        ({"z": [[3]]}, {}, True),
    ],
    ids=["counts", "hover", "share on hover", "shares", "places", "grid"],
)
def test_a_figure_with_a_small_count_is_known(trace, layout, is_few):
    assert figures.has_few({"data": [trace], "layout": layout}) is is_few


def test_names_are_found_as_words_alone():
    names = {"frame": ["Ann's phone", "1234"], "other": ["pc"]}
    assert guard.frames_named("it is Ann's phone.", names) == ["frame"]
    assert guard.frames_named("Ann's phones, 51234, pc", names) == []


@pytest.mark.parametrize(
    "text",
    ["Ann&#39;s &lt;big&gt; &#34;pad&#34;", r"Ann's \u003cbig> \"pad\"", 'Ann\'s <big>\n"pad"'],
)
def test_names_are_found_as_html_and_json_write_them(text):
    assert guard.frames_named(f"it is {text}.", {"frame": ['Ann\'s <big>  "pad"']}) == ["frame"]


def test_frames_tell_whom_they_name_and_pseudonyms_name_nobody():
    named = pd.DataFrame({"user_id": ["42424242", "user-abcdefgh2345", None]})
    facts = probe.facts({"named": named, "_": 3, "safe": named.iloc[1:]})
    assert facts["names"] == {"named": ["42424242"]}
    assert facts["as_of"] is None


@pytest.mark.parametrize(
    "value",
    [
        pl.DataFrame({"device_name": ["Ann's phone"]}),
        pl.Series("device_name", ["Ann's phone"]),
        pd.Series(["Ann's phone"], name="device_name"),
        pd.DataFrame({"n": [1]}, index=pd.Index(["Ann's phone"], name="device_name")),
        {"a": [pd.DataFrame({"device_name": ["Ann's phone", None]})]},
        pd.DataFrame([["Ann's phone", "Ann's phone"]], columns=["device_name"] * 2),
    ],
    ids=["polars", "polars series", "series", "index", "inside", "twice"],
)
def test_names_are_known_wherever_a_notebook_keeps_them(value):
    assert set(probe.facts({"held": value})["names"]["held"]) == {"Ann's phone"}


def test_the_account_itself_is_not_named(notebook, key, monkeypatch):
    monkeypatch.setenv("KOODRIVE_USER_ID", "ann.smith")
    with pytest.raises(kd.ReportError, match="users or devices of KOODRIVE_USER_ID"):
        kd.report.render(notebook("print('of ann.smith')"), output=key.with_name("a.html"), key=key)


def test_the_weekly_report_hands_over_no_ids():
    path = Path(__file__).parents[2] / "notebooks" / "05_weekly_report.ipynb"
    told = rendering._tables(nbformat.read(path, as_version=4))["tables"]
    assert {*told} == {"headline", "controls", "data_quality"}
    columns = {name for rows in told.values() for row in rows for name in row}
    assert not columns & {"example_ids", "offenders", "user_id", "device_id", "record_id"}


def test_a_form_shows_its_text_and_an_odd_output_nothing():
    widget = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "Explorer(3)"}
    cells = [
        nbformat.v4.new_code_cell(
            outputs=[
                nbformat.v4.new_output("display_data", data=widget),
                nbformat.v4.new_output("display_data", data={"application/x": "1"}),
                nbformat.v4.new_output("display_data", data={"image/png": "aGk="}),
                nbformat.v4.new_output("error", ename="E", evalue="<x>", traceback=[]),
            ]
        )
    ]
    book = nbformat.v4.new_notebook(cells=cells)
    html = page.write(book, title="t", footer=[], complete=True, counts=False, show_code=False)
    assert "Explorer(3)" in html
    assert "data:image/png;base64,aGk=" in html
    assert "E: &lt;x&gt;" in html
    assert "script-src 'none'" in html
