"""Tables in forms: a page at a time, whatever their text holds."""

from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from koodrive_nb import analysis
from koodrive_nb.forms import tables

HOSTILE = "<script>alert(1)</script>&\u202e"
SHANGHAI = ZoneInfo("Asia/Shanghai")


def numbers(n):
    table = tables.PagedTable("records")
    table.show(
        n, lambda first, last: pd.DataFrame({"n": [f"#{one}" for one in range(first, last)]})
    )
    return table


def test_text_of_the_service_is_shown_as_it_is():
    assert tables.text(HOSTILE) == "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;&amp;</bdi>"
    assert tables.text(pd.NA) == "–"
    assert len(tables.text("x" * 500)) == 60 + len("<bdi></bdi>")


def test_captions_and_headings_are_text_too():
    page = tables.table_html(HOSTILE, pd.DataFrame({HOSTILE: [tables.text(HOSTILE)]}))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 4
    assert "<script" not in tables.state("<script>", "<script>")


@pytest.mark.parametrize("rows", [None, pd.DataFrame({"n": []})])
def test_an_empty_table_says_so(rows):
    assert "records: none" in tables.table_html("records", rows)


def test_a_table_can_be_scrolled_by_keyboard_and_has_its_name():
    assert 'tabindex="0" role="region" aria-label="records"' in numbers(3).shown
    assert numbers(3).shown.count('scope="col"') == 1


def test_pages_are_turned_to_the_end_and_back():
    table = numbers(45)
    assert (table.previous.disabled, table.next.disabled) == (True, False)
    assert "rows 1 to 20 of 45" in table._place.value
    table.next.click()
    table.next.click()
    assert "rows 41 to 45 of 45" in table._place.value
    assert "#44" in table.shown
    assert "#39<" not in table.shown
    assert (table.previous.disabled, table.next.disabled) == (False, True)
    table.next.click()
    assert "rows 41 to 45" in table._place.value
    table.previous.click()
    assert "rows 21 to 40" in table._place.value


def test_another_table_starts_at_its_first_page():
    table = numbers(45)
    table.next.click()
    table.show(30, lambda first, last: pd.DataFrame({"n": range(first, last)}))
    assert "rows 1 to 20 of 30" in table._place.value


@pytest.mark.parametrize(("n", "display"), [(0, "none"), (20, "none"), (21, None)])
def test_what_fits_one_page_has_no_pager(n, display):
    assert numbers(n)._pager.layout.display == display


def test_an_instant_has_the_offset_of_its_zone():
    stamp = pd.Timestamp("2026-01-02T23:00:00Z")
    assert tables.moment(stamp, SHANGHAI) == "2026-01-03 07:00:00 +08:00"
    assert tables.moment(pd.NaT, SHANGHAI) == "–"


def test_a_duration_that_is_missing_is_a_dash():
    assert tables.length(float("nan")) == "–"
    assert tables.length(90.0) not in {"–", ""}


def test_records_become_rows_of_markup(records):
    classified = analysis.classify(records).head(30)
    rows = tables.record_rows(classified, SHANGHAI)
    assert len(rows) == 30
    assert "created (Asia/Shanghai)" in rows.columns
    assert rows["record id"].iloc[0] == f"<bdi>{classified['record_id'].iloc[0]}</bdi>"
    assert "koodrive-mark" in rows["state"].iloc[0]
