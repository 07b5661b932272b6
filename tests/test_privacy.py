"""Under KOODRIVE_PRIVACY nothing that a fetch hands over names anybody."""

import json
import pickle
import re
import traceback

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import koodrive_nb as kd
from koodrive_nb import privacy

KEY, OTHER = "0f" * 32, "e1" * 32
USER = kd.sandbox.DEFAULT_USER
APP = kd.AppAuth("a378331e", "5e1c0ffee")
IDS = {"user_id": "user", "device_id": "device", "machine_code": "machine"}


@pytest.fixture(params=["pseudonyms", "counts"])
def private(request, monkeypatch):
    monkeypatch.setenv("KOODRIVE_PRIVACY", request.param)
    monkeypatch.setenv("KOODRIVE_PRIVACY_KEY", KEY)


@pytest.fixture(scope="module")
def named():
    """Give the truth about a few users of the sandbox: what must not be seen."""
    drawn = kd.sandbox.frames()
    chosen = list(drawn.users["user_id"].head(6))
    mine = drawn.records["user_id"].isin(chosen)
    return chosen, pd.concat(
        [
            drawn.records.loc[mine, [*IDS, "device_name"]],
            drawn.devices.loc[drawn.devices["user_id"].isin(chosen), [*IDS, "device_name"]],
        ]
    ).drop_duplicates()


def all_of(frame):
    """Give all text that a frame holds, beside it and in it."""
    return "\n".join([frame.to_csv(), repr(frame.attrs), repr(frame.columns)])


def raw_values(truth):
    names = {name for name in truth["device_name"].dropna() if name.strip()}
    return {value for column in IDS for value in truth[column].dropna()} | names


def assert_names_nobody(text, values):
    seen = [value for value in values if value in text]
    assert not seen, seen[:3]


def test_no_frame_of_any_call_names_a_user_or_device(private, monkeypatch, named, client):
    chosen, truth = named
    monkeypatch.delenv("KOODRIVE_PRIVACY")
    own = client.for_user(chosen[0])
    device_id, record_id = own.devices()["device_id"][0], own.records()["record_id"][0]
    raw = raw_values(truth)
    assert_has = all_of(own.scopes(device_id)) + all_of(own.devices())
    assert any(value in assert_has for value in raw)

    monkeypatch.setenv("KOODRIVE_PRIVACY", "pseudonyms")
    fleet = kd.fleet.fetch(client, chosen)
    frames = [
        fleet.records,
        fleet.devices,
        fleet.users,
        own.records(),
        own.record(record_id),
        own.records_by_id([record_id]),
        own.devices(),
        own.files(record_id),
        own.scopes(device_id),
        own.configs(device_id),
    ]
    drawn = kd.sandbox.frames()
    frames += [drawn.records, drawn.devices, drawn.users, drawn.device_truth, kd.sandbox.users()]
    frames += [
        kd.ledger(frame) for frame in frames if "ledger_id" in frame.attrs.get("koodrive", ())
    ]
    assert len(frames) == 24
    for frame in frames:
        assert len(frame)
        assert_names_nobody(all_of(frame), raw)
        for column, kind in IDS.items():
            if column in frame.columns:
                known = frame[column].dropna()
                assert known.str.fullmatch(rf"{kind}-[a-z2-7]{{12}}").all()
    assert_names_nobody(repr(own) + own._repr_html_(), raw)


def test_frames_keep_their_columns_types_and_rows(private, monkeypatch, client):
    hidden = client.records()
    monkeypatch.delenv("KOODRIVE_PRIVACY")
    shown = client.records()
    assert hidden.dtypes.astype(str).to_dict() == shown.dtypes.astype(str).to_dict()
    same = [name for name in shown if name not in {*IDS, *privacy._FREE_TEXT}]
    pd.testing.assert_frame_equal(hidden[same], shown[same])
    for name in IDS:
        assert list(pd.factorize(hidden[name])[0]) == list(pd.factorize(shown[name])[0])


def test_a_call_takes_the_pseudonyms_that_this_process_made(private, client):
    device = client.devices()["device_id"][0]
    assert set(client.scopes(device)["device_id"]) == {device}
    assert set(client.configs(device)["device_id"]) == {device}
    assert set(client.records(device_id=device)["device_id"]) == {device}
    users = kd.sandbox.users()["user_id"].head(2)
    assert set(client.for_user(users[1]).devices()["user_id"]) == {users[1]}
    assert list(kd.fleet.fetch(client, users).users["user_id"]) == list(users)


def test_a_pseudonym_from_elsewhere_is_refused_before_anything_is_sent(private, client):
    with pytest.raises(kd.InvalidParameterError, match="not known in this process: fetch"):
        client.records(device_id="device-zzzzzzzzzzzz")


def test_a_pseudonym_of_an_id_that_cannot_be_sent_is_refused(private, service):
    odd = "../../x?a=\r\nX-Evil: 1"
    service.answer = lambda _: service.Answer({"code": 0, "data": [{"deviceId": odd}]})
    with service.connect() as client:
        hidden = client.devices()["device_id"][0]
        with pytest.raises(kd.InvalidParameterError, match="cannot be sent") as caught:
            client.scopes(hidden)
        assert len(service.asked) == 1
    assert odd not in str(caught.value)


def test_what_failed_names_nobody(private, service):
    """The service repeats ids and names in its words, in its rows and in headers."""
    words = "Ann of 1505000000000000042 has no phone 1775000000000000009"

    def answer(asked):
        if asked.path.endswith("/device"):
            row = {"deviceId": "1775000000000000009", "deviceName": "Ann", "x": "Ann"}
            return service.Answer({"code": 0, "data": [row, {"deviceName": "Ann"}]})
        return service.Answer({"code": words, "msg": words}, 400)

    service.answer = answer
    with service.connect(auth=APP, user_id="1505000000000000042") as client:
        ids = ["1505000000000000042", "1505000000000000043"]
        with pytest.raises(kd.IncompleteError) as many:
            kd.fleet.fetch(client, ids)
        with pytest.raises(kd.ServiceError) as one:
            client.scopes("1775000000000000009", "album")
        ledgers = [kd.ledger(many.value.frame.records), kd.ledger(many.value.frame.devices)]
        said = [str(many.value), repr(many.value), str(one.value), repr(one.value), one.value.path]
        said += [str(vars(one.value)), all_of(many.value.failures)]
        said += [all_of(getattr(many.value.frame, name)) for name in ("devices", "users")]
        said += [all_of(frame) for frame in ledgers]
        said += [pickle.dumps(many.value).decode("latin-1")]
    assert ledgers[1]["set_aside"].sum() == 2
    assert_names_nobody("\n".join(said), ["Ann", "15050000", "17750000"])
    assert re.search(r"device-[a-z2-7]{12}/scope was refused", str(one.value))
    assert many.value.failures["user_id"].str.startswith("user-").all()


def test_a_traceback_that_shows_variables_names_nobody(private, service):
    user, device = "1505000000000000042", "1775000000000000009"
    row = {"deviceId": device, "deviceName": "Ann"}
    page = {"code": 0, "data": [{"recordId": "1", "deviceInfo": row}], "nextCursor": "x"}
    refusal = service.Answer({"code": 13000301}, 400)

    def answer(asked):
        if asked.path.endswith("/device"):
            return service.Answer({"code": 0, "data": [row]})
        return refusal if "cursor" in asked.query else service.Answer(page)

    service.answer = answer
    with service.connect(auth=APP, user_id=user) as client:
        hidden = client.devices()["device_id"][0]
        calls = (
            lambda: client.records(device_id=hidden),
            lambda: client.configs(hidden),
            lambda: kd.fleet.fetch(client, [privacy.pseudonym(user, "user")]),
        )
        for call in calls:
            with pytest.raises(kd.KooDriveError) as caught:
                call()
            # From the package on: this function knows them.
            inner = caught.value.with_traceback(caught.tb.tb_next.tb_next)
            told = traceback.TracebackException.from_exception(inner, capture_locals=True)
            assert_names_nobody("".join(told.format()), ["Ann", user, device])


def test_an_error_that_was_pickled_in_private_says_to_ask_anew(private, service):
    service.answer = lambda asked: service.Answer(
        {"code": 0, "data": []}, 503 if asked.query.get("moduleCode") == "101" else 200
    )
    with service.connect() as client:
        with pytest.raises(kd.IncompleteError) as caught:
            client.records()
        again = pickle.loads(pickle.dumps(caught.value))
        pd.testing.assert_frame_equal(again.frame, caught.value.frame)
        with pytest.raises(kd.InvalidParameterError, match="fetch it again"):
            again.resume(client)


@pytest.mark.parametrize(
    ("mode", "key", "says"),
    [
        ("nonsense", KEY, "takes one of names, pseudonyms, counts"),
        (KEY, KEY, "KOODRIVE_PRIVACY takes"),
        ("pseudonyms", None, r"KOODRIVE_PRIVACY_KEY is not set.*new_key\(\)"),
        ("counts", "", "KOODRIVE_PRIVACY_KEY is not set"),
        ("pseudonyms", KEY[:-1], "KOODRIVE_PRIVACY_KEY is no key.*64 hexadecimal digits"),
        ("pseudonyms", KEY + "\n", "is no key"),
    ],
)
def test_unfit_settings_cost_no_fetch_and_show_no_key(service, monkeypatch, mode, key, says):
    with service.connect() as client:
        monkeypatch.setenv("KOODRIVE_PRIVACY", mode)
        if key is not None:
            monkeypatch.setenv("KOODRIVE_PRIVACY_KEY", key)
        with pytest.raises(kd.ConfigurationError, match=says) as caught:
            client.devices()
    assert service.asked == []
    # From the package on: this function knows the key.
    inner = caught.value.with_traceback(caught.tb.tb_next)
    told = traceback.TracebackException.from_exception(inner, capture_locals=True)
    assert KEY[:-1] not in "".join(told.format())


def test_protect_and_lookup_take_a_key_of_their_own(records):
    hidden = privacy.protect(records, "pseudonyms", KEY)
    pd.testing.assert_frame_equal(privacy.protect(hidden, "pseudonyms", OTHER), hidden)
    assert privacy.protect(records) is records
    wanted = hidden["device_id"][0]
    found = privacy.lookup(wanted, records, KEY)
    pd.testing.assert_frame_equal(found, records[records["device_id"] == records["device_id"][0]])
    assert privacy.lookup([wanted], records, OTHER).empty
    assert len(privacy.lookup([wanted, hidden["user_id"][0]], records, KEY)) == len(records)


def test_a_label_that_names_a_device_is_replaced(records):
    states = kd.analysis.classify(records)
    hidden = privacy.protect(states, "pseudonyms", KEY)
    known = hidden["device_id"].notna()
    assert hidden.loc[known, "device_label"].equals(hidden.loc[known, "device_id"])
    assert set(hidden.loc[~known, "device_label"]) <= {"(unknown device)"}
    labels = hidden[["device_label"]]
    pd.testing.assert_frame_equal(privacy.protect(labels, "pseudonyms", KEY), labels)
    assert set(privacy.protect(states[["device_label"]], "pseudonyms", KEY)["device_label"]) == {
        "(unknown device)"
    }


def test_what_tables_say_of_devices_in_passing_is_dropped(records):
    checked = kd.analysis.check_policy(records, policy={"controls": {"data_quality": 0}}).controls
    told = checked.iloc[[0, 0]].assign(
        offenders=["phone ·0001; user-abcdefgh2345", "device-abcdefgh2345; user-abcdefgh2345"]
    )
    hidden = privacy.protect(told, "pseudonyms", KEY)
    assert list(hidden["offenders"].isna()) == [True, False]
    failed = pd.DataFrame({"what": ["Ann"], "error": ["Ann"], "properties.owner": ["Ann"]})
    assert privacy.protect(failed, "pseudonyms", KEY).isna().all(axis=None)
    rules = kd.analysis.data_quality(records)
    pd.testing.assert_frame_equal(privacy.protect(rules, "pseudonyms", KEY), rules)


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.set_index("device_id"),
        lambda frame: frame.set_index(["module", "device_name"]),
        lambda frame: frame.pivot_table(
            index="module", columns="user_id", values="version", observed=True
        ),
        lambda frame: frame.groupby("module", observed=True).agg({"device_id": ["min"]}),
        lambda frame: frame[["device_id", "device_id"]],
    ],
    ids=["index", "level", "headers", "two levels", "twice"],
)
def test_names_in_an_index_or_in_headers_are_refused(records, change):
    with pytest.raises(kd.InvalidParameterError, match="reset_index"):
        privacy.protect(change(records), "pseudonyms", KEY)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda frame: privacy.lookup("1775406005920779393", frame, KEY), "1 of these are no"),
        (lambda frame: privacy.lookup([None], frame, KEY), "no pseudonyms"),
        (lambda frame: privacy.lookup([], frame[["status"]], KEY), "with a column user_id"),
        (lambda frame: privacy.lookup([], None, KEY), "takes a frame with"),
        (lambda frame: privacy.protect([1], "pseudonyms", KEY), "not list"),
    ],
)
def test_unfit_arguments_are_refused(records, call, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        call(records)


# For pandas 2.2, a NUL in plain objects ends a text.
TEXT = st.text(st.characters(exclude_characters="\0"), max_size=8)
TEXTS = st.lists(st.none() | TEXT | st.sampled_from(["", "\ud800", "user-", "a\n"]))


@given(TEXTS)
def test_pseudonyms_depend_on_value_kind_and_key_alone(texts):
    def column(name, key, values=texts):
        frame = pd.DataFrame({name: pd.Series(values, dtype=object)})
        return privacy.protect(frame, "pseudonyms", key)[name]

    users = column("user_id", KEY)
    assert list(users[::-1]) == list(column("user_id", KEY, texts[::-1])) or users.isna().any()
    assert list(users.isna()) == [text is None for text in texts]
    pairs = {(text, shown) for text, shown in zip(texts, users, strict=True) if text}
    assert len(pairs) == len({text for text, _ in pairs}) == len({shown for _, shown in pairs})
    for other in (column("user_id", OTHER), column("device_id", KEY)):
        assert not ({*users.dropna()} & {*other.dropna()}) - {""}
    assert json.dumps(list(users.dropna())).isascii()


def test_a_new_key_is_fit_and_another_each_time():
    first, second = privacy.new_key(), privacy.new_key()
    assert first != second
    frame = pd.DataFrame({"user_id": ["1"]})
    assert privacy.PSEUDONYM.fullmatch(privacy.protect(frame, "pseudonyms", first)["user_id"][0])
