"""Looking up records in a form: what came is kept, what did not is told, and nothing escapes."""

import time
from datetime import UTC, datetime

import pandas as pd
import pytest
from ipywidgets.widgets import widget

import koodrive_nb as kd
from koodrive_nb import progress
from koodrive_nb.forms import RecordForm, hands, pasted, retrieval

DOCUMENTED = "1842862763295184641"
BASE = "/koodrive/ose/v1/backup"
SECRET = "s3cr3t-t0ken-0123456789"


@pytest.fixture
def form(client):
    made = RecordForm(client)
    yield made
    made.close()


@pytest.fixture
def double(service):
    """Give a form on the service that answers as told, which few may ask at once."""
    with service.connect(max_workers=4) as client:
        made = RecordForm(client)
        yield made
        made.close()


def record(identity, device="9", module="101"):
    return {
        "recordId": identity,
        "moduleCode": module,
        "status": 1,
        "createTime": "2026-01-01T00:00:00.000Z",
        "endTime": "2026-01-01T00:01:00.000Z",
        "deviceInfo": {"deviceId": device, "deviceName": f"phone {device}"},
    }


def numbered(n):
    return [f"{number:05}" for number in range(n)]


def serve(service, rows, *, first=lambda asked: None):
    """Answer records and devices as the API does, unless `first` has an answer."""
    devices = {row["deviceInfo"]["deviceId"]: row["deviceInfo"] for row in rows}

    def answer(asked):
        early = first(asked)
        if early is not None:
            return early
        if asked.path == f"{BASE}/device":
            return service.Answer({"code": 0, "data": [*devices.values()]})
        wanted = asked.path.removeprefix(f"{BASE}/record").removeprefix("/")
        if wanted:
            found = [row for row in rows if row["recordId"] == wanted]
            return service.Answer({"code": 0, "data": found[0]} if found else {"code": 13000309})
        only = asked.query.get("deviceId")
        mine = [
            row
            for row in rows
            if row["moduleCode"] == asked.query["moduleCode"]
            and only in {None, row["deviceInfo"]["deviceId"]}
        ]
        start = int(asked.query.get("cursor", "0"))
        following = str(start + 2) if start + 2 < len(mine) else ""
        return service.Answer({"code": 0, "data": mine[start : start + 2], "nextCursor": following})

    service.answer = answer


def asked_ids(service):
    return [asked.path.rpartition("/")[2] for asked in service.asked]


def type_and_click(form, text):
    form.ids.field.value = text
    form.look_up_button.click()


def is_shown(part):
    return part.layout.display != "none"


@pytest.mark.parametrize(
    "text",
    [
        "a1,b2;c3",
        "a1 b2\tc3\n",
        "\ufeff'a1', \"b2\"\r\n“c3”",
        "[‘a1’, ‘b2’, (c3)]",
        "{a1}\u00a0<b2>\u200b`c3`",
        "a1、b2，c3。",
        "a1 a1 b2 a1 c3 c3",
    ],
)
def test_ids_are_found_however_they_are_pasted_and_each_counts_once(text):
    assert pasted.ids(text) == (["a1", "b2", "c3"], {})


def test_what_is_no_id_is_told_with_the_reason_and_not_sent(double, service):
    serve(service, [record("1")])
    type_and_click(double, f"1, 2/3, 1.84286E+18, {'9' * 129}, ../x")
    assert list(double.records["record_id"]) == ["1"]
    assert list(double.refused) == ["2/3", "1.84286E+18", "9" * 129, "../x"]
    assert "spreadsheet" in double.refused["1.84286E+18"]
    assert asked_ids(service) == ["1"]
    assert "No id, so not asked for: 4" in double._lists.value


@pytest.mark.parametrize("given", [["1", 2, None], pd.Series(["1", 2, pd.NA], dtype=object)])
def test_ids_from_code_are_checked_like_pasted_ones(double, service, given):
    serve(service, [record("1")])
    double.look_up(given)
    assert list(double.records["record_id"]) == ["1"]
    assert len(double.refused) == 2


@pytest.mark.parametrize("given", [3, None, {"1": "2"}, pd.DataFrame({"record_id": ["1"]})])
def test_what_is_no_list_of_ids_is_an_error_in_code(form, given):
    with pytest.raises(kd.InvalidParameterError, match="record_id"):
        form.look_up(given)


@pytest.mark.parametrize("text", ["", " ,;\n", "x/y"])
def test_without_an_id_nothing_is_asked_and_what_was_there_stays(double, service, text):
    serve(service, [record("1")])
    double.look_up("1")
    service.asked.clear()
    type_and_click(double, text)
    assert service.asked == []
    assert "no record id here" in double.ids.notice.text
    assert len(double.records) == 1


def test_the_documented_record_is_shown_as_a_card_with_its_timeline(form):
    type_and_click(form, f'"{DOCUMENTED}"')
    assert form.shelf.shown.count("<section") == 1
    assert DOCUMENTED in form.shelf.shown
    assert is_shown(form.shelf.plot)
    assert len(form.shelf.plot.figure.data)
    assert "by these records alone" in form.shelf.notice.text
    assert form.code == f'client.records_by_id(["{DOCUMENTED}"])'
    assert form.code in form._code_line.value.replace("&quot;", '"')
    assert form.notice.text == "1 record."
    assert repr(form) == "RecordForm(1 record, sandbox)"
    assert kd.ledger(form.records)["complete"].all()


def test_before_anything_was_looked_up_there_are_columns_and_no_figure(form):
    assert list(form.records.columns) == list(kd.schema("records")["column"])
    assert form.records.empty
    assert form.not_found == ()
    assert form.failures.empty
    assert form.code == ""
    shown = (form.shelf.plot, form.shelf.table, form.saving, form._code_line, form.again)
    assert not any(map(is_shown, shown))
    assert repr(form) == "RecordForm(0 records, sandbox)"


def test_thousands_of_pasted_ids_come_within_seconds_in_their_order(double, service):
    ids = numbered(2_000)[::-1]
    serve(service, [])
    service.answer = lambda asked: service.Answer(
        {"code": 0, "data": record(asked.path.rpartition("/")[2])}
    )
    told = []
    double.notice.observe(lambda _: told.append(double.notice.value), "value")
    start = time.perf_counter()
    type_and_click(double, "\n".join(ids))
    assert time.perf_counter() - start < 15
    assert list(double.records["record_id"]) == ids
    assert any("400 of 2,000 record ids looked up…" in line for line in told)
    assert len(service.asked) == 2_000
    assert double.code == "client.records_by_id(ids)  # the 2,000 ids above"
    assert double.notice.text == "2,000 records."


def test_of_many_records_there_is_a_table_and_the_card_of_one(double, service):
    serve(service, [record(each) for each in numbered(30)])
    double.look_up(numbered(30))
    shelf = double.shelf
    assert is_shown(shelf.table)
    assert "rows 1 to 20 of 30" in shelf.table._place.value
    assert "of 30" in shelf._of.value
    assert shelf.previous.disabled
    shelf.next.click()
    assert "00001" in shelf.shown
    shelf.number.value = 30
    assert "00029" in shelf.shown
    assert shelf.next.disabled
    shelf.previous.click()
    assert shelf.number.value == 29
    double.look_up(numbered(3))
    assert not is_shown(shelf.table)
    assert shelf.shown.count("<section") == 3


def test_ids_that_are_not_there_are_listed_the_first_fifty_of_them(double, service):
    serve(service, [record("00007")])
    double.look_up(numbered(70))
    assert double.not_found == tuple(each for each in numbered(70) if each != "00007")
    assert double.failures.empty
    assert double.notice.text == "1 record; 69 not found."
    assert "Not found: 69 (the first 50 are listed)" in double._lists.value
    assert "00050" in double._lists.value
    assert "00069" not in double._lists.value
    assert not is_shown(double.again)
    assert repr(double) == "RecordForm(1 record, 69 not found, live)"


@pytest.mark.parametrize("ids", ["5", "5 6"])
def test_where_nothing_is_found_the_form_says_so_and_is_empty(double, service, ids):
    serve(service, [record("1")])
    double.look_up("1")
    double.look_up(ids)
    assert double.records.empty
    assert double.notice.text.startswith("No records; ")
    assert not is_shown(double.shelf.plot)
    assert double.shelf.shown == ""
    assert double.code == ""


def test_ids_that_failed_are_told_apart_from_those_not_found_and_asked_again_alone(double, service):
    broken = {"2"}
    serve(
        service,
        [record("1"), record("2")],
        first=lambda asked: service.Answer(b"", 503) if asked.path[-1] in broken else None,
    )
    double.look_up("2 1 3")
    assert list(double.records["record_id"]) == ["1"]
    assert double.not_found == ("3",)
    assert list(double.failures["what"]) == ["record 2"]
    assert "1 failed" in double.notice.text
    assert is_shown(double.again)
    broken.clear()
    service.asked.clear()
    double.again.click()
    assert asked_ids(service) == ["2"]
    assert list(double.records["record_id"]) == ["2", "1"]
    assert double.not_found == ("3",)
    assert double.failures.empty
    assert not is_shown(double.again)


def test_where_nothing_came_each_id_has_its_own_reason(double, service):
    serve(
        service,
        [],
        first=lambda asked: service.Answer(b"", 503) if asked.path.endswith("/2") else None,
    )
    double.look_up("1 2")
    assert double.not_found == ("1",)
    assert list(double.failures["what"]) == ["record 2"]


def ending(service, status, after):
    """Let the service go down, or refuse, after so many requests."""

    def first(asked):
        if len(service.asked) <= after:
            return None
        if status is None:
            raise ConnectionError
        return service.Answer({"code": status}, status)

    return first


ENDINGS = {
    "down": (503, "failed again and again"),
    "unreachable": (None, "did not answer"),
    "expired": (401, "does not accept the credentials"),
}


@pytest.mark.parametrize("ends", ENDINGS)
def test_what_came_before_the_service_ended_is_kept_and_no_more_is_sent(
    service, double, monkeypatch, ends
):
    monkeypatch.setattr(retrieval, "_BATCH", 20)
    status, words = ENDINGS[ends]
    ids = numbered(500)
    rows = [record(each) for each in ids]
    serve(service, rows, first=ending(service, status, 50))
    type_and_click(double, " ".join(ids))
    n = len(double.records)
    assert 40 <= n <= 50
    assert len(set(asked_ids(service))) <= 70
    assert words in double.notice.text
    assert "What came is kept." in double.notice.text
    assert 'role="alert"' in double.notice.value
    assert len(double.failures) == 500 - n
    assert double.failures["error"].str.startswith("not asked").sum() == 440
    assert is_shown(double.again)
    assert not double.again.disabled

    serve(service, rows)
    service.asked.clear()
    if ends == "expired":
        assert "form.client = new_client" in double.notice.text
        double.client = service.connect(token="another-token-0123456789", max_workers=4)
    double.again.click()
    assert list(double.records["record_id"]) == ids
    assert len(service.asked) == 500 - n
    if ends == "expired":
        assert {asked.headers["Authorization"].split()[-1] for asked in service.asked} == {
            "another-token-0123456789"
        }
        double.client.close()


def test_where_nothing_comes_at_all_what_was_shown_stays(service, double):
    serve(service, [record("1")])
    double.look_up("1")
    service.says({"code": 401}, 401)
    double.look_up("2 3")
    assert list(double.records["record_id"]) == ["1"]
    assert "What is shown is from before." in double.notice.text
    assert double.code == 'client.records_by_id(["1"])'
    assert len(double.failures) == 2


def test_an_interrupt_keeps_what_came_and_try_again_asks_for_the_rest(service, double, monkeypatch):
    monkeypatch.setattr(retrieval, "_BATCH", 10)
    ids = numbered(40)
    serve(service, [record(each) for each in ids])
    ask, calls = kd.Client.records_by_id, []

    def interrupted(self, batch, **options):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return ask(self, batch, **options)

    monkeypatch.setattr(kd.Client, "records_by_id", interrupted)
    with pytest.raises(KeyboardInterrupt):
        double.look_up(ids)
    assert list(double.records["record_id"]) == ids[:20]
    assert "Interrupted: 20 of 40 record ids done" in double.notice.text
    assert not double.look_up_button.disabled
    double.again.click()
    assert list(double.records["record_id"]) == ids
    asked_last = sorted(asked.path.rpartition("/")[2] for asked in service.asked[-20:])
    assert asked_last == ids[20:]


def test_an_interrupted_click_ends_quietly(double, service, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(kd.Client, "records_by_id", interrupt)
    monkeypatch.setattr(hands, "sent_at", lambda: datetime.now(UTC))
    type_and_click(double, "1")
    assert "Interrupted" in double.notice.text
    monkeypatch.setattr(kd.Client, "devices", interrupt)
    double.devices_button.click()
    assert double.notice.text == "Interrupted."


def test_an_unforeseen_error_in_a_click_is_shown_without_what_may_be_secret(
    double, service, monkeypatch
):
    serve(service, [record("1")])
    double.look_up("1")

    def fail(*arguments, **options):
        raise RuntimeError(f"no such vault entry {SECRET}")

    monkeypatch.setattr(kd.Client, "records_by_id", fail)
    type_and_click(double, "2")
    assert "not foreseen, please report it: RuntimeError at test_lookup.py" in double.notice.text
    assert SECRET not in repr(widget_states(double))
    assert len(double.records) == 1
    assert not double.look_up_button.disabled


def widget_states(form):
    found, left = [], [form]
    while left:
        one = left.pop()
        found.append(one.get_state())
        left += getattr(one, "children", ())
    return found


def test_buttons_are_disabled_while_the_form_works(double, service):
    seen = []

    def first(asked):
        seen.append([button.disabled for button in buttons])

    buttons = (
        *(double.look_up_button, double.devices_button),
        *(double.records_button, double.again),
    )
    serve(service, [record("1")], first=first)
    double.look_up("1")
    double.load("42")
    assert all(map(all, seen))
    assert not any(button.disabled for button in buttons)


def test_a_record_without_dates_has_a_card_and_no_empty_figure(double, service):
    serve(service, [record("1") | {"createTime": None, "endTime": None}])
    double.look_up("1")
    assert double.shelf.shown.count("<section") == 1
    assert not is_shown(double.shelf.plot)
    assert "none of these records has a creation time" in double.shelf._no_timeline.text


def test_no_bar_of_the_client_appears_beside_the_line_of_the_form(service, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_AFTER_S", 0)
    serve(service, [record(each) for each in numbered(50)])
    with service.connect(progress=True) as client:
        form = RecordForm(client)
        form.look_up(numbered(50))
        form.load("42")
        form.close()
    assert capsys.readouterr().err == ""


def test_the_devices_of_a_user_can_be_searched_those_without_records_too(form, client, devices):
    form.door.value = "User"
    assert form.user.field.value == devices["user_id"].iloc[0]
    form.devices_button.click()
    assert form.notice.text.startswith(f"{len(devices)} devices")
    assert {identity for _, identity in form.devices.found.options} == set(devices["device_id"])
    assert all(" ·" in label for label, _ in form.devices.found.options)


def test_all_records_of_a_user_come_as_the_client_gives_them(form, client, records):
    form.door.value = "User"
    form.records_button.click()
    pd.testing.assert_frame_equal(form.records, records)
    assert form.code == "client.records()"
    assert form.shelf.notice.text == ""
    assert kd.ledger(form.records).attrs["failures"] == []


@pytest.mark.parametrize("n", [1, 2])
def test_the_records_of_chosen_devices_are_joined_and_the_code_gives_the_same(
    form, client, devices, records, n
):
    counts = records["device_id"].value_counts()
    chosen = tuple(str(each) for each in counts.index[:n])
    form.find_devices(str(devices["user_id"].iloc[0]))
    form.devices.found.value = chosen
    form.records_button.click()
    assert form.devices.value == chosen
    assert len(form.records) == counts.iloc[:n].sum()
    pd.testing.assert_frame_equal(form.records, eval(form.code, {"client": client, "pd": pd}))
    assert form.records.attrs["koodrive"]["complete"]


def test_records_of_another_user_need_a_client_that_may_see_them(double, service, client):
    type_and_click(double, "")
    double.load("43")
    assert "only the user that it was given to" in double.user.notice.text
    assert service.asked == []
    double.load("a b")
    assert "user id must be" in double.user.notice.text
    double.load("42", ["no/device"])
    assert "device id must be" in double.notice.text
    assert service.asked == []


def test_the_code_names_the_other_user():
    fleet_user = str(kd.sandbox.users()["user_id"].iloc[3])
    with kd.connect("sandbox") as client:
        form = RecordForm(client)
        form.load(fleet_user)
        assert form.code == f'client.for_user("{fleet_user}").records()'
        assert set(form.records["user_id"]) == {fleet_user}
        form.close()


def test_an_empty_account_is_told_and_the_form_stays_usable(double, service):
    serve(service, [])
    double.door.value = "User"
    double.devices_button.click()
    assert double.notice.text == "This user has no devices."
    double.records_button.click()
    assert double.notice.text == "No records."
    serve(service, [record("1")])
    double.records_button.click()
    assert double.notice.text == "1 record."


@pytest.mark.parametrize("status", [401, 503])
def test_pages_that_came_are_kept_and_try_again_goes_on_from_there(service, double, status):
    rows = [record(each) for each in "1234567"]
    broken = [True]

    def first(asked):
        hit = broken and asked.query.get("cursor") == "4"
        return service.Answer({"code": status}, status) if hit else None

    serve(service, rows, first=first)
    double.load("42")
    assert list(double.records["record_id"]) == [*"1234"]
    assert list(double.failures["what"]) == ["module album"]
    assert is_shown(double.again)
    broken.clear()
    service.asked.clear()
    double.client = service.connect(token="another-token-0123456789", max_workers=4)
    double.again.click()
    assert list(double.records["record_id"]) == [*"1234567"]
    assert [asked.query["cursor"] for asked in service.asked] == ["4", "6"]
    assert double.failures.empty
    double.client.close()


def test_devices_that_came_are_kept_where_the_next_one_fails(service, double):
    rows = [record("1", "a"), record("2", "b"), record("3", "c")]
    broken = {"b"}

    def first(asked):
        hit = asked.query.get("deviceId") in broken
        return service.Answer({"code": 401}, 401) if hit else None

    serve(service, rows, first=first)
    double.load("42", ["a", "b", "c", "a"])
    assert list(double.records["record_id"]) == ["1"]
    assert list(double.failures["what"]) == ["device b", "device c"]
    assert "1 of 3 devices done" in double.notice.text
    assert "c" not in {asked.query.get("deviceId") for asked in service.asked}
    broken.clear()
    double.again.click()
    assert list(double.records["record_id"]) == ["1", "2", "3"]
    assert double.failures.empty


def test_a_service_that_is_down_is_told_in_the_user_door(service, double):
    service.says({"code": 401}, 401)
    double.door.value = "User"
    double.devices_button.click()
    assert "401" in double.notice.text
    double.records_button.click()
    assert "401" in double.notice.text
    assert {asked.path for asked in service.asked} == {f"{BASE}/device"}


def test_hostile_names_ids_and_words_of_the_service_never_become_markup(service, double):
    hostile = "<img src=x onerror=alert(1)>"
    row = record("1") | {"properties": hostile}
    row["deviceInfo"] |= {"deviceName": hostile, "deviceOS": hostile}
    serve(service, [row | {"recordId": each} for each in numbered(7)])
    double.look_up(f"{' '.join(numbered(7))} {hostile} <b>/</b>")
    double.load("42")
    service.says({"code": 1, "msg": hostile}, 400)
    double.look_up("1 2")
    states = widget_states(double)
    markup = [state["value"] for state in states if state["_model_name"] == "HTMLModel"]
    assert len(markup) > 10
    assert "<img" not in "".join(markup)
    assert "<img" not in double.shelf.plot.figure.to_json()
    assert "&lt;img" in "".join(markup)


def test_times_are_shown_in_the_given_zone_then_in_that_of_the_environment(client, monkeypatch):
    monkeypatch.setenv("KOODRIVE_TZ", "Asia/Shanghai")
    for tz, expected in ((None, "15:59:20 +08:00 Asia/Shanghai"), ("UTC", "07:59:20 UTC")):
        form = RecordForm(client, tz=tz)
        form.look_up(DOCUMENTED)
        assert expected in form.shelf.shown
        form.close()
    with pytest.raises(kd.InvalidParameterError, match="no time zone"):
        RecordForm(client, tz="Nowhere")


def test_a_form_takes_nothing_but_a_client(form):
    with pytest.raises(kd.InvalidParameterError, match=r"kd\.connect\(\)"):
        RecordForm("token")
    with pytest.raises(kd.InvalidParameterError, match=r"kd\.connect\(\)"):
        form.client = None


def test_another_client_fills_in_its_own_user_unless_another_was_typed(service, double):
    with service.connect(user_id="77") as other:
        double.client = other
        assert double.user.field.value == "77"
        double.user.field.value = "5"
        double.client = service.connect(user_id="42")
        assert double.user.field.value == "5"
        double.client.close()


def test_saving_writes_what_is_shown_with_the_line_that_gives_it(form):
    form.look_up(DOCUMENTED)
    frame, made = form.saving._what()
    assert frame is form.records
    assert made == form.code
    assert is_shown(form.saving)


def test_closing_frees_every_widget(client):
    before = set(widget._instances)
    form = RecordForm(client)
    form.look_up(DOCUMENTED)
    form.load("1505084218764547200")
    form.close()
    assert set(widget._instances) == before


def test_a_repr_is_short_and_the_same_in_every_run(double, service):
    serve(service, [], first=lambda asked: service.Answer(b"", 400))
    double.look_up(numbered(3))
    assert repr(double) == "RecordForm(0 records, 3 failed, live)"
