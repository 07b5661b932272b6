"""Every fault of the service x every call that fetches, against what the fleet really holds."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

import koodrive_nb as kd
from koodrive_nb import pacing, transport
from koodrive_nb.sandbox import contents, synthetic

USER = kd.sandbox.DEFAULT_USER
DEVICE = "1775406005920779393"
MODULES = ("100", "101", "102")
FLEET = synthetic.users()[USER]


def ids(rows, field):
    return [json.loads(row)[field] for row in rows]


def held(module, device_id=None):
    return FLEET.page(module, device_id, 0, 10**9)[0]


RECORDS = [identity for module in MODULES for identity in ids(held(module), "recordId")]
MANY_FILES = max(
    (identity for identity in RECORDS), key=lambda each: len(contents.files(FLEET.record(each)))
)
ASKED = RECORDS[:7]

# What each call asks for, and the ids that the fleet holds for it.
CALLS = {
    "record": (lambda client: client.record(ASKED[0]), "record_id", ASKED[:1]),
    "records_by_id": (lambda client: client.records_by_id(ASKED), "record_id", ASKED),
    "records": (lambda client: client.records(), "record_id", RECORDS),
    "records of a module": (
        lambda client: client.records(module="album"),
        "record_id",
        ids(held("101"), "recordId"),
    ),
    "records of a device": (
        lambda client: client.records(device_id=DEVICE),
        "record_id",
        [each for module in MODULES for each in ids(held(module, DEVICE), "recordId")],
    ),
    "devices": (lambda client: client.devices(), "device_id", ids(FLEET.devices(), "deviceId")),
    "files": (
        lambda client: client.files(MANY_FILES),
        "file_id",
        ids(contents.files(FLEET.record(MANY_FILES)), "fileId"),
    ),
    "scopes": (
        lambda client: client.scopes(DEVICE),
        "scope_id",
        [
            each
            for module in MODULES
            for each in ids(contents.scopes(FLEET.device(DEVICE), module), "scopeId")
        ],
    ),
    "configs": (
        lambda client: client.configs(DEVICE),
        "config_name",
        [
            each
            for module in MODULES
            for each in ids(contents.configs(FLEET.device(DEVICE), module), "configName")
        ],
    ),
}
LISTINGS = {"records", "records of a module", "records of a device", "files"}

PASSING = {
    "latency": {"kind": "latency", "seconds": 0.01},
    "429": {"kind": "status", "status": 429, "times": 1},
    "429, seconds": {"kind": "status", "status": 429, "times": 1, "retry_after_s": 0},
    "429, date": {"kind": "status", "status": 429, "times": 1, "retry_after_s": 0, "as_date": True},
    "500": {"kind": "status", "status": 500, "times": 2},
    "502": {"kind": "status", "status": 502, "times": 2},
    "503, seconds": {"kind": "status", "status": 503, "times": 2, "retry_after_s": 0},
    "504": {"kind": "status", "status": 504, "times": 4},
    "some of all": {"kind": "status", "share": 0.2},
    "drop": {"kind": "drop", "times": 2},
    "truncate": {"kind": "truncate", "times": 2},
    "empty page": {"kind": "empty_page", "times": 1},
    "short page": {"kind": "short_page", "share": 0.5},
    "duplicates": {"kind": "duplicates"},
    "misfit": {"kind": "misfit"},
    "unknown fields": {"kind": "unknown_fields"},
    "token expiry": {"kind": "token_expiry", "every": 10},
}
LASTING = {
    "429": ({"kind": "status", "status": 429}, kd.ThrottledError),
    "500": ({"kind": "status", "status": 500}, kd.ServerError),
    "503": ({"kind": "status", "status": 503}, kd.ServerError),
    "code": ({"kind": "code"}, kd.ServiceError),
    "drop": ({"kind": "drop"}, kd.ConnectionFailedError),
    "truncate": ({"kind": "truncate"}, kd.ConnectionFailedError),
    "not json": ({"kind": "not_json"}, kd.ProtocolError),
    "html": ({"kind": "html"}, kd.ProtocolError),
}


@pytest.fixture(scope="module")
def closing():
    """Close beside the tests that follow: a sandbox takes a fifth of a second to stop."""
    with ThreadPoolExecutor(2) as pool:
        results = []
        yield lambda close: results.append(pool.submit(close))
        for result in results:
            result.result()


@pytest.fixture
def served(monkeypatch, closing):
    """Give a client of a sandbox with faults, who hurries even after it was asked to wait."""
    monkeypatch.setattr(pacing, "_SLOWEST_PER_S", 100.0)
    opened = []

    def serve(*faults, **options):
        sandbox = kd.sandbox.Sandbox(faults=[kd.sandbox.Fault(**fault) for fault in faults])
        client = kd.connect(
            endpoint=sandbox.start().endpoint,
            auth=kd.TokenAuth(lambda: sandbox.token),
            user_id=USER,
            **options,
        )
        opened.extend([client.close, sandbox.stop])
        return client

    yield serve
    for close in opened:
        closing(close)


def strikes(fault, call):
    """Tell whether a fault can strike a call at all."""
    if fault in {"empty page", "short page", "duplicates"}:
        return call in LISTINGS
    if fault in {"token expiry", "some of all"}:
        return call in {"records", "records of a module", "records of a device"}
    return fault != "misfit" or call not in {"record", "records_by_id"}


@pytest.mark.parametrize(
    ("fault", "call"),
    [(fault, call) for fault in PASSING for call in CALLS if strikes(fault, call)],
)
def test_a_fault_that_passes_costs_nothing(served, call, fault, monkeypatch):
    # After a refusal for asking too often, the pace would be slow for a while.
    monkeypatch.setattr(transport, "_GIVE_UP_AFTER_S", 60)
    monkeypatch.setattr("koodrive_nb.pacing._CLIMB", 1e6)
    ask, column, truth = CALLS[call]
    frame = ask(served(PASSING[fault]))
    assert sorted(frame[column]) == sorted(truth)
    lines = kd.ledger(frame)
    assert lines["complete"].all()
    assert frame.attrs["koodrive"]["complete"] is True
    mine = lines[lines["dataset"] == lines["dataset"].iloc[0]]
    assert mine["rows"].sum() == len(truth) + mine["duplicates"].sum() + mine["set_aside"].sum()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", LASTING)
def test_a_fault_that_lasts_is_named_where_nothing_came(served, call, fault, monkeypatch):
    monkeypatch.setattr(transport, "_GIVE_UP_AFTER_S", 0.05)
    ask, _, _ = CALLS[call]
    planned, kind = LASTING[fault]
    with pytest.raises(kind):
        ask(served(planned))


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("record\\?.*moduleCode=102", ids(held("102"), "recordId")),
        ("record\\?from=100.*moduleCode=101", ids(held("101")[100:], "recordId")),
        ("record\\?from=200.*moduleCode=101", ids(held("101")[200:], "recordId")),
    ],
    ids=["a module", "the second page", "the last page"],
)
def test_exactly_the_rows_that_came_are_kept_and_the_rest_is_fetched_later(
    served, fault, path, missing, monkeypatch
):
    monkeypatch.setattr(transport, "_GIVE_UP_AFTER_S", 0.05)
    planned, kind = LASTING[fault]
    broken = served(planned | {"path": path})
    with pytest.raises(kd.IncompleteError) as caught:
        broken.records()
    error = caught.value
    assert sorted(error.frame["record_id"]) == sorted(set(RECORDS) - set(missing))
    assert list(error.failures["error"].str.partition(":")[0]) == [kind.__name__]
    assert error.frame.attrs["koodrive"]["complete"] is False
    assert kd.ledger(error.frame)["complete"].sum() == 2

    whole = error.resume(served())
    assert sorted(whole["record_id"]) == sorted(RECORDS)
    assert list(whole["record_id"]) == list(served().records()["record_id"])
    assert kd.ledger(whole)["complete"].all()
    # What was told of the partial frame still holds for it.
    assert kd.ledger(error.frame)["complete"].sum() == 2


@pytest.mark.parametrize("call", CALLS)
def test_a_cursor_that_comes_again_ends_a_listing_with_the_rows_that_came(served, call):
    ask, column, truth = CALLS[call]
    client = served({"kind": "repeat_cursor"})
    if call not in LISTINGS:
        assert sorted(ask(client)[column]) == sorted(truth)
        return
    with pytest.raises(kd.IncompleteError, match="cursor twice") as caught:
        ask(client)
    came = caught.value.frame[column]
    assert set(came) <= set(truth)
    assert came.is_unique
    assert not caught.value.failures["retryable"].any()


def test_pages_that_stay_empty_for_ever_are_an_error(served, monkeypatch):
    monkeypatch.setattr("koodrive_nb.jobs._MOST_EMPTY_PAGES", 5)
    with pytest.raises(kd.IncompleteError, match="has no end"):
        served({"kind": "empty_page", "path": "moduleCode=100"}).records()


def test_a_listing_without_end_is_an_error(service, monkeypatch):
    monkeypatch.setattr("koodrive_nb.jobs._MOST_PAGES", 20)

    def answer(asked):
        number = int(asked.query.get("cursor", "0"))
        row = {"recordId": str(number), "deviceInfo": {"deviceId": "9"}}
        return service.Answer({"code": 0, "data": [row], "nextCursor": str(number + 1)})

    service.answer = answer
    with service.connect() as client, pytest.raises(kd.IncompleteError, match="max_pages=") as told:
        client.records(module="100")
    assert len(told.value.frame) == 20
