import re
import threading
import warnings
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from koodrive_nb.clock import Clock, http_date

NONE = timedelta(0)


@pytest.fixture
def clock():
    return Clock()


def date(**ahead):
    return format_datetime(datetime.now(UTC) + timedelta(**ahead), usegmt=True)


def stamped(clock):
    return datetime.strptime(clock.stamp(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def test_a_clock_begins_as_this_machine_s(clock):
    assert clock.correction == NONE
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=1)
    assert clock.now().tzinfo is UTC


def test_a_stamp_is_utc_and_a_few_seconds_old(clock):
    assert re.fullmatch(r"\d{8}T\d{6}Z", clock.stamp())
    assert timedelta(seconds=5) <= datetime.now(UTC) - stamped(clock) < timedelta(seconds=7)


@pytest.mark.parametrize(
    ("ahead_s", "side"),
    [
        (-10, "ahead of"),
        (-120, "ahead of"),
        (-3600, "ahead of"),
        (-86400 * 400, "ahead of"),
        (14 * 60, "behind"),
        (901, "behind"),
        (3600, "behind"),
        (86400 * 400, "behind"),
    ],
)
def test_a_wrong_clock_is_corrected_with_one_warning(clock, ahead_s, side):
    with pytest.warns(UserWarning, match=f"{side} the service's") as warned:
        assert clock.explains(NONE, date(seconds=ahead_s)) is True
    assert len(warned) == 1
    assert "Set the clock" in str(warned[0].message)
    told = int(re.search(r"is ([\d,]+) s ", str(warned[0].message))[1].replace(",", ""))
    assert abs(told - abs(ahead_s)) <= 2
    theirs = datetime.now(UTC) + timedelta(seconds=ahead_s)
    assert abs(clock.now() - theirs) < timedelta(seconds=2)
    assert NONE <= theirs - stamped(clock) < timedelta(seconds=10)


@pytest.mark.parametrize("ahead_s", [-1, 0, 1, 60, 600, 830])
def test_a_clock_that_is_right_enough_explains_nothing(clock, ahead_s):
    assert clock.explains(NONE, date(seconds=ahead_s)) is False
    assert clock.correction == NONE


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " ",
        "now",
        "1730617300",
        "2025-11-03T07:01:40Z",
        "Mon, 32 Nov 2025 07:01:40 GMT",
        "Mon, 03 Nov 2025 25:01:40 GMT",
        "Mon, 03 Nov 20251 07:01:40 GMT",
        "Mon, 03 Nov 2025 07:01:40 +99999999999",
        "\x00",
        "名",
        "9" * 5000,
        "Mon," * 1000,
    ],
)
def test_a_date_that_is_none_explains_nothing(clock, text):
    assert http_date(text) is None
    assert clock.explains(NONE, text) is False
    assert clock.correction == NONE


def test_a_clock_is_corrected_only_once(clock):
    with pytest.warns(UserWarning, match="behind"):
        clock.explains(NONE, date(hours=2))
    once = clock.correction
    # Any further warning would be an error here.
    assert clock.explains(once, date(hours=-2)) is False
    assert clock.explains(once, date(hours=2)) is False
    assert clock.correction == once


def test_a_request_sent_before_another_worker_s_correction_is_explained_by_it(clock):
    with pytest.warns(UserWarning, match="ahead of"):
        clock.explains(NONE, date(hours=-2))
    once = clock.correction
    for text in (date(hours=-2), date(), None, "nonsense"):
        assert clock.explains(NONE, text) is True
    assert clock.correction == once


def test_workers_refused_together_warn_once(clock):
    start = threading.Barrier(16, timeout=10)
    explained = []

    def refused():
        start.wait()
        explained.append(clock.explains(NONE, date(hours=1)))

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=refused) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert explained == [True] * 16
    assert len(warned) == 1


def test_a_warning_turned_into_an_error_leaves_the_clock_corrected(clock):
    with pytest.raises(UserWarning, match="behind"):
        clock.explains(NONE, date(hours=1))
    assert abs(clock.correction - timedelta(hours=1)) < timedelta(seconds=2)
    assert clock.explains(NONE, date(hours=1)) is True


@pytest.mark.parametrize(
    "text",
    [
        "Mon, 03 Nov 2025 07:01:40 GMT",
        "Mon, 03 Nov 2025 07:01:40 +0000",
        "Mon, 03 Nov 2025 07:01:40 -0000",
        "Mon, 03 Nov 2025 15:01:40 +0800",
        "Monday, 03-Nov-25 07:01:40 GMT",
        "Mon Nov  3 07:01:40 2025",
        "  Mon, 03 Nov 2025 07:01:40 GMT ",
    ],
)
def test_a_date_of_a_header_is_read_in_every_form_it_has(text):
    found = http_date(text)
    assert found == datetime(2025, 11, 3, 7, 1, 40, tzinfo=UTC)
    assert found.tzinfo is not None
