"""What a card tells of a record, and that nothing in a record can break it."""

import html
import json
import re
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.forms import trees
from koodrive_nb.forms.cards import as_sent, card

UTC, SHANGHAI = ZoneInfo("UTC"), ZoneInfo("Asia/Shanghai")
DOCUMENTED = "1842862763295184641"
DEVICE = {
    "deviceId": "90177",
    "deviceName": "P40",
    "deviceOS": "HarmonyOS",
    "machineCode": "77",
    "createTime": "2025-01-02T03:04:05.678Z",
}
HOSTILE = "<img src=x onerror=alert(1)></details></section>\"'&\u202eabc"


class Markup(HTMLParser):
    """Reads markup strictly: every element is closed, in its order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.names, self.words, self.deepest = [], [], [], 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.names.append(tag)
        self.deepest = max(self.deepest, self.open.count("details"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return "".join(self.words)


def classified(service, **fields):
    row = {"recordId": "1", "moduleCode": "101", "status": 0} | fields
    service.serve([row])
    with service.connect() as client:
        return kd.analysis.classify(client.record("1"))


def shown(frame, zone=UTC, place=0):
    return Markup(card(frame.iloc[place].to_dict(), zone))


def test_the_documented_record_shows_state_status_times_and_properties(client):
    text = shown(kd.analysis.classify(client.record(DOCUMENTED)), SHANGHAI).text
    for part in (
        f"in progress · album · {DOCUMENTED}",
        "API statusnew (0)",
        "open, and counts as stuck after 1 d",
        "2025-12-17 15:59:20 +08:00 Asia/Shanghai = 2025-12-17 07:59:20 UTC",
        "no end; created 30 min 39 s before it was fetched",
        "the record names none",
        'test: "123"',
        "sandbox (synthetic), fetched",
    ):
        assert part in text


def test_raw_json_has_the_fields_of_the_api_and_says_that_it_is_written_back(client):
    frame = kd.analysis.classify(client.record(DOCUMENTED))
    text, notes = as_sent(frame.iloc[0].to_dict())
    assert json.loads(text) == {
        "recordId": DOCUMENTED,
        "moduleCode": "101",
        "status": 0,
        "properties": '{"test":"123"}',
        "version": 1,
        "createTime": "2025-12-17T07:59:20.752Z",
    }
    assert notes == []
    assert "Written back by the schema" in shown(frame).text


def test_raw_json_nests_the_device_and_fields_that_the_schema_does_not_know(service):
    row = {
        "deviceInfo": DEVICE | {"colour": "red"},
        "tier": {"name": "gold"},
        "a.b": 1,
        "version": "one",
        "createTime": "2025-12-01T00:00:00.000Z",
    }
    text, _ = as_sent(classified(service, **row).iloc[0].to_dict())
    assert json.loads(text) == {"recordId": "1", "moduleCode": "101", "status": 0} | row


def test_raw_json_leaves_out_a_device_that_the_record_did_not_name(client, records):
    record = records[records["device_source"] == "query"]
    row = records.iloc[[0]].assign(device_source="query") if record.empty else record.iloc[[0]]
    text, notes = as_sent(kd.analysis.classify(row).iloc[0].to_dict())
    assert "deviceInfo" not in json.loads(text)
    assert "the record did not name it" in notes[0]


def test_a_field_that_came_twice_is_told(service):
    row = b'{"recordId":"1","moduleCode":"101","status":0,"status":1}'
    service.says(b'{"code":0,"data":%s}' % row)
    with service.connect() as client:
        frame = kd.analysis.classify(client.record("1"))
    text, notes = as_sent(frame.iloc[0].to_dict())
    assert json.loads(text)["row as sent"] == row.decode()
    assert "a field came twice" in notes[0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": 1, "endTime": "2025-12-01T01:00:00Z"}, ["completed", "1 h", "as the API says"]),
        ({}, ["stuck", "inferred: open for longer than 1 d"]),
        ({"status": 2}, ["to be deleted", "abandoned"]),
        ({"status": 2, "endTime": "2025-12-01T01:00:00Z"}, ["to be deleted", "had ended before"]),
        ({"status": 9}, ["unknown", "not one that the API documents"]),
        ({"createTime": None}, ["in progress", "open, and counts as stuck"]),
        ({"moduleCode": "999"}, ["unknown (999)"]),
        ({"deviceInfo": DEVICE}, ["P40 ·0177", "named by the record itself", "HarmonyOS"]),
    ],
)
def test_a_card_says_in_words_what_a_record_is_and_by_which_rule(service, fields, words):
    row = {"createTime": "2025-12-01T00:00:00Z"} | fields
    text = shown(classified(service, **row)).text
    for word in words:
        assert word in text


def test_a_card_says_which_later_backup_rule_makes_it_stuck(records):
    frame = kd.analysis.classify(records)
    place = int((frame["stuck_reason"] == "superseded").to_numpy().argmax())
    assert "its device and module have a later backup" in shown(frame, place=place).text


def test_hostile_text_is_shown_as_it_is_and_never_becomes_markup(service):
    device = DEVICE | dict.fromkeys(("deviceName", "deviceOS", "machineCode"), HOSTILE)
    properties = json.dumps({HOSTILE: [HOSTILE, {HOSTILE: HOSTILE}]})
    frame = classified(service, deviceInfo=device, properties=properties, more={HOSTILE: HOSTILE})
    read = shown(frame)
    assert set(read.names) <= {
        *("section", "h4", "h5", "span", "bdi", "dl", "dt", "dd"),
        *("div", "b", "details", "summary", "pre"),
    }
    assert "<img src=x" in read.text
    assert "\u202e" not in read.text


@pytest.mark.parametrize("value", [None, "", "{}", "[]", "cut off {", "null", "3", '"text"'])
def test_properties_of_every_kind_are_shown(service, value):
    text = shown(classified(service, properties=value)).text
    expected = {None: "none", "": "empty text", "{}": "0 fields", "[]": "0 items"}
    assert expected.get(value, value) in text
    assert ("not JSON, so shown as text" in text) == (value == "cut off {")


def test_numbers_keep_their_digits_and_names_that_came_twice_are_both_there():
    source = '{"a": NaN, "a": -Infinity, "n": 184286276329518464123456789, "x": 1e999, "t": true}'
    text = Markup(trees.tree(source)).text
    assert text == "a: NaNa: -Infinityn: 184286276329518464123456789x: 1e999t: true"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("[" * 20 + "]" * 20, "branches below level 8"),
        ("[" * 5_000 + "]" * 5_000, "nested too deeply"),
        (json.dumps([[0] * 200] * 200), "values beyond the first few hundred"),
        (json.dumps({"a": "x" * 1_000_000}), "ends of long texts"),
        ("x" * 1_000_000, "1,000,000 characters in all"),
        (json.dumps("x" * 6_000_000), "too long to be read here"),
    ],
    ids=["deep", "bottomless", "wide", "long", "no JSON", "endless"],
)
def test_a_tree_is_bounded_and_says_what_it_leaves_out(source, told):
    markup = trees.tree(source)
    assert len(markup) < 100_000
    read = Markup(markup)
    assert told in read.text
    assert read.deepest <= 8


def test_a_megabyte_of_properties_makes_a_small_card(service):
    frame = classified(service, properties=json.dumps({"a": "<" * 1_000_000}))
    markup = card(frame.iloc[0].to_dict(), UTC)
    assert len(markup) < 150_000
    assert re.search(r"cut, since it has 1,000,\d{3} characters", html.unescape(markup))


def test_unknown_fields_nested_too_deeply_are_written_as_text():
    deep = '{"deep":' + "[" * 5_000 + "]" * 5_000 + "}"
    record = dict.fromkeys(kd.schema("records")["column"], pd.NA) | {"record_id": "1"}
    text, notes = as_sent(record | {"extra": deep})
    assert json.loads(text) == {"recordId": "1", "extra": deep}
    assert "as text" in notes[0]


def test_a_subtree_can_be_opened_and_closed():
    read = Markup(trees.tree('{"outer": {"inner": [1, 2]}, "flat": 1}'))
    assert read.names.count("details") == 2
    assert read.text == "outer: 1 fieldinner: 2 items0: 11: 2flat: 1"
