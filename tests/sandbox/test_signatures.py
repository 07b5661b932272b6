import hashlib
import hmac
import random
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, quote_plus, urlsplit

import pytest
import requests

import koodrive_nb as kd
from koodrive_nb import signing
from koodrive_nb.sandbox import signatures

BASE = "/koodrive/ose/v1/backup"
RECORD = f"{BASE}/record/1842862763295184641"
KEYS = {b"app-1": b"secret-1", b"app-2": b"secret-2"}
EMPTY_SHA256 = hashlib.sha256().hexdigest()
AWKWARD = [
    "",
    " ",
    "a b",
    "  a  b  ",
    "+",
    "a+b c",
    "%",
    "%20",
    "%2B",
    "100%",
    "~",
    "a/b/../c",
    "a?b#c",
    "a&b=c",
    "==",
    ";,:@!$'()*",
    '\\^`{|}<>"',
    "[]",
    "é",
    "相册",
    "\U0001f4f1 Phone",
    "e\u0301\u200d",
    "\u00a0\u3000",
    "\r\n\t",
    "\x00\x7f",
    "AZaz09-_.~",
]


def stamp(**back):
    return f"{datetime.now(UTC) - timedelta(**back):%Y%m%dT%H%M%SZ}"


@pytest.fixture(scope="module")
def sandbox():
    with kd.sandbox.Sandbox() as running:
        yield running


@pytest.fixture
def prepared(sandbox):
    """Give a request as kd.AppAuth signs it, ready to be changed before it is sent."""

    def prepare(target=RECORD, query=None, *, auth=None, sign_host=True, **headers):
        auth = auth or kd.AppAuth(sandbox.app_id, sandbox.app_secret, sign_host=sign_host)
        sent = {"X-User-Id": kd.sandbox.DEFAULT_USER, "X-Date": stamp(seconds=2)} | headers
        return requests.Request(
            "GET", sandbox.endpoint + target, params=query, headers=sent, auth=auth
        ).prepare()

    return prepare


@pytest.fixture
def send():
    with requests.Session() as session:
        session.trust_env = False
        yield lambda request: session.send(request, timeout=10)


@pytest.fixture
def signed_by_hand(sandbox):
    """Sign properly whatever is named, in the order given, as nothing in the package would."""

    def sign(names, values=(), secret=None):
        headers = {
            "x-date": stamp(seconds=2),
            "x-user-id": kd.sandbox.DEFAULT_USER,
            "host": urlsplit(sandbox.endpoint).netloc,
        } | dict(values)
        canonical = "\n".join(
            [
                "GET",
                f"{RECORD}/",
                "",
                *(f"{name.lower()}:{headers[name.lower()]}" for name in names),
                "",
                ";".join(names),
                EMPTY_SHA256,
            ]
        )
        text = f"HMAC-SHA256\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = (secret or sandbox.app_secret).encode()
        signature = hmac.digest(key, text.encode(), hashlib.sha256).hex()
        headers["authorization"] = (
            f"HMAC-SHA256 AppId={sandbox.app_id},SignedHeaders={';'.join(names)},"
            f"Signature={signature}"
        )
        return requests.Request("GET", sandbox.endpoint + RECORD, headers=headers).prepare()

    return sign


def is_refused(answer):
    return (answer.status_code, answer.json().get("error_code")) == (401, "APIGW.0303")


@pytest.mark.parametrize("sign_host", [True, False])
@pytest.mark.parametrize("value", AWKWARD)
def test_any_value_of_a_query_is_taken_as_requests_sends_it(prepared, send, value, sign_host):
    request = prepared(f"{BASE}/device", {"note": value, value: "1"}, sign_host=sign_host)
    assert send(request).status_code == 200


@pytest.mark.parametrize("sign_host", [True, False])
@pytest.mark.parametrize(
    "query",
    [
        "a",
        "a=",
        "a&b=&c",
        "=",
        "=a",
        "&&a=1&",
        "a=b%20c",
        "a=b+c",
        "a=b+c%20d%2Be",
        "a=2&a=1&A=3&a=10",
        "a=%e7%9b%b8",
        "a=é",
        "a=100%",
        "a=%zz",
        "a=%7E",
        "a=b;c=d",
    ],
)
def test_any_spelling_of_a_query_is_taken(prepared, send, query, sign_host):
    request = prepared(f"{BASE}/device?{query}", sign_host=sign_host)
    assert send(request).status_code == 200


@pytest.mark.parametrize("path", ["./device", "record/../device", "../backup/./device"])
def test_a_path_with_dots_is_signed_as_it_is_sent(prepared, send, path):
    assert send(prepared(f"{BASE}/{path}")).status_code == 200


@pytest.mark.parametrize("user", [kd.sandbox.DEFAULT_USER, kd.sandbox.CROWD_USER])
def test_an_app_acts_for_every_user(prepared, send, user):
    listing = {"moduleCode": "101", "pageSize": 1}
    answer = send(prepared(f"{BASE}/record", listing, **{"X-User-Id": user}))
    assert (answer.status_code, len(answer.json()["data"])) == (200, 1)


@pytest.mark.parametrize("sign_host", [True, False])
@pytest.mark.parametrize("user", [kd.sandbox.CROWD_USER, f"{kd.sandbox.DEFAULT_USER}1", ""])
def test_a_user_changed_after_signing_is_refused(prepared, send, user, sign_host):
    request = prepared(sign_host=sign_host)
    request.headers["X-User-Id"] = user
    assert is_refused(send(request))


@pytest.mark.parametrize("sign_host", [True, False])
def test_a_time_changed_after_signing_is_refused(prepared, send, sign_host):
    request = prepared(sign_host=sign_host)
    request.headers["X-Date"] = stamp(seconds=400)
    assert is_refused(send(request))


@pytest.mark.parametrize("name", ["X-Date", "X-User-Id"])
def test_a_header_left_out_after_signing_is_refused(prepared, send, name):
    request = prepared()
    del request.headers[name]
    assert is_refused(send(request))


@pytest.mark.parametrize(("sign_host", "status"), [(True, 401), (False, 200)])
def test_a_rewritten_host_is_refused_only_where_it_was_signed(prepared, send, sign_host, status):
    request = prepared(sign_host=sign_host)
    request.headers["Host"] = "proxy.example"
    assert send(request).status_code == status


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("184641", "184642"),
        ("record/1842862763295184641", "device"),
        ("pageSize=7", "pageSize=8"),
        ("pageSize", "pagesize"),
        ("&pageSize=7", ""),
        ("note=a%20b", "note=a%2Bb"),
        ("note=a%20b", "note=a%20b%20"),
        ("note=a%20b", "note=a%20b&note="),
        ("note=a%20b", "note=A%20b"),
    ],
)
def test_a_path_or_query_changed_after_signing_is_refused(prepared, send, before, after):
    request = prepared(f"{RECORD}?note=a%20b&pageSize=7")
    assert before in request.url
    assert send(request).status_code == 200
    request.url = request.url.replace(before, after)
    assert is_refused(send(request))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("note=a%20b", "note=a+b"),
        ("note=a%20b", "%6eote=a%20b"),
        ("note=a%20b&pageSize=7", "pageSize=7&note=a%20b"),
        ("184641?", "184641?&"),
    ],
)
def test_another_spelling_of_the_same_target_is_taken(prepared, send, before, after):
    request = prepared(f"{RECORD}?note=a%20b&pageSize=7")
    assert before in request.url
    request.url = request.url.replace(before, after)
    assert send(request).status_code == 200


def test_another_method_is_another_signature(prepared, send):
    request = prepared()
    assert send(request).status_code == 200
    request.method = "HEAD"
    assert send(request).status_code == 401


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Signature=", "Signature=0"),
        ("AppId=", "AppId=0"),
        ("SignedHeaders=host;", "SignedHeaders="),
        ("SignedHeaders=host;", "SignedHeaders=host;host;"),
        ("host;x-date;x-user-id", "x-date;host;x-user-id"),
        ("host;x-date;x-user-id", "host,x-date,x-user-id"),
        ("host;x-date;x-user-id", "Host;X-Date;X-User-Id"),
        (",Signature", ", Signature"),
        (",SignedHeaders", ", SignedHeaders"),
        ("HMAC-SHA256 AppId", "HMAC-SHA256  AppId"),
        ("AppId=", "appid="),
        ("AppId=", "Id="),
    ],
)
def test_any_other_form_of_the_authorization_is_refused(prepared, send, before, after):
    request = prepared()
    assert before in request.headers["Authorization"]
    request.headers["Authorization"] = request.headers["Authorization"].replace(before, after)
    assert is_refused(send(request))


@pytest.mark.parametrize("place", [0, 31, 63])
def test_every_digit_of_a_signature_counts(prepared, send, place):
    request = prepared()
    form, _, signature = request.headers["Authorization"].partition("Signature=")
    digit = "0" if signature[place] != "0" else "1"
    changed = signature[:place] + digit + signature[place + 1 :]
    request.headers["Authorization"] = f"{form}Signature={changed}"
    assert is_refused(send(request))


def test_the_wrong_id_or_secret_is_refused(prepared, send, sandbox):
    for auth in (
        kd.AppAuth(sandbox.app_id, sandbox.app_secret[:-1]),
        kd.AppAuth(sandbox.app_id, sandbox.app_id),
        kd.AppAuth(sandbox.app_secret, sandbox.app_secret),
        kd.AppAuth("unknown", sandbox.app_secret),
    ):
        assert is_refused(send(prepared(auth=auth)))
    assert send(prepared()).status_code == 200


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (["host", "x-date", "x-user-id"], 200),
        (["x-date", "x-user-id"], 200),
        (["x-date", "x-note", "x-user-id"], 200),
        (["x-user-id"], 401),
        (["x-date"], 401),
        (["host"], 401),
        (["host", "x-date"], 401),
        (["x-user-id", "x-date"], 401),
        (["x-date", "host", "x-user-id"], 401),
        (["x-date", "x-date", "x-user-id"], 401),
        (["x-date", "x-user-id", "x-user-id"], 401),
        (["X-Date", "X-User-Id"], 401),
    ],
)
def test_what_is_signed_holds_the_mandatory_headers_sorted_once(
    signed_by_hand, send, names, status
):
    assert send(signed_by_hand(names, {"x-note": "a  b"})).status_code == status


def test_a_header_that_is_signed_must_be_there(signed_by_hand, send):
    request = signed_by_hand(["x-date", "x-note", "x-user-id"], {"x-note": ""})
    assert send(request).status_code == 200
    del request.headers["x-note"]
    assert is_refused(send(request))


@pytest.mark.parametrize("back", [{"minutes": 16}, {"minutes": -2}])
def test_a_genuine_signature_of_another_time_is_refused_for_its_date(prepared, send, back):
    answer = send(prepared(**{"X-Date": stamp(**back)}))
    assert (answer.status_code, answer.json()["code"]) == (400, 400)


def test_a_restart_forgets_the_credentials():
    with kd.sandbox.Sandbox() as running:
        before = (running.app_id, running.app_secret)
    with running:
        assert {running.app_id, running.app_secret}.isdisjoint(before)


@pytest.fixture
def genuine():
    """Give what `is_genuine` takes for one request that it finds genuine."""
    names = [b"x-date", b"x-user-id"]
    headers = {b"x-date": b"20251103T070140Z", b"x-user-id": b"42", b"accept": b"*/*"}
    canonical = signing.canonical_request(
        "GET", "http://host/a/b?c=d", {name.decode(): headers[name].decode() for name in names}
    )
    key = hmac.new(KEYS[b"app-1"], None, hashlib.sha256)
    headers[b"authorization"] = (
        b"HMAC-SHA256 AppId=app-1,SignedHeaders=x-date;x-user-id,Signature="
        + signing.signature(key, canonical).encode()
    )
    return {
        "method": "GET",
        "raw_path": b"/a/b",
        "raw_query": b"c=d",
        "headers": headers,
        "keys": KEYS,
    }


def test_a_vector_of_the_reference_is_genuine():
    headers = {
        b"x-date": b"20251103T070140Z",
        b"x-user-id": b"1505084218764547200",
        b"host": b"sandbox.example",
        b"authorization": b"HMAC-SHA256 AppId=a,SignedHeaders=host;x-date;x-user-id,Signature="
        b"4aa5396e28aa469874048c1f4d343ece84fede4b265f56438434bad1258ed9b9",
    }
    query = b"pageSize=100&moduleCode=101&cursor=a+b/c%2Bd=~"
    path = f"{BASE}/record".encode()
    keys = {b"a": b"sandbox-app-secret"}
    assert signatures.is_genuine("GET", path, query, headers, keys)
    assert not signatures.is_genuine("GET", path, query[1:], headers, keys)


@pytest.mark.parametrize(
    "spelling",
    [
        {},
        {"method": "get"},
        {"raw_path": b"/a/b/"},
        {"raw_path": b"//a/./b"},
        {"raw_path": b"/x/../a/b"},
        {"raw_path": b"/%61/b"},
        {"raw_query": b"&c=%64&"},
    ],
)
def test_other_spellings_of_one_request_are_genuine(genuine, spelling):
    assert signatures.is_genuine(**genuine | spelling) is True


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "POST"},
        {"raw_path": b"/a/B"},
        {"raw_path": b"/a%2Fb"},
        {"raw_path": b"/a"},
        {"raw_query": b""},
        {"raw_query": b"c=D"},
        {"raw_query": b"c=d&c=d"},
        {"raw_query": b"c=d&e"},
        {"headers": {}},
        {"keys": {}},
        {"keys": {b"app-1": b"secret-2"}},
        {"keys": {b"app-2": b"secret-1"}},
    ],
)
def test_another_request_is_not_genuine(genuine, changed):
    assert signatures.is_genuine(**genuine | changed) is False


@pytest.mark.parametrize(
    ("name", "value", "is_genuine"),
    [
        (b"x-date", b"20251103T070141Z", False),
        (b"x-date", b" 20251103T070140Z ", True),
        (b"x-user-id", b"43", False),
        (b"accept", b"text/html", True),
        (b"authorization", b"", False),
        (b"authorization", b"Bearer 60f4", False),
        (b"authorization", b"HMAC-SHA256 ", False),
    ],
)
def test_signed_headers_count_and_no_others(genuine, name, value, is_genuine):
    genuine["headers"][name] = value
    assert signatures.is_genuine(**genuine) is is_genuine


ALPHABET = "aZ09-_.~ +%&=/?#;,:@!*'()[]\"\\\x00\n\x7fé\u0301相册\u200d\U0001f4f1\U00010000"


def drawn(rng, longest):
    return "".join(rng.choice(ALPHABET) for _ in range(rng.randrange(longest)))


def spelt(rng, text):
    """Encode text in one of the ways that clients do."""
    encode = rng.choice([quote, quote_plus, lambda text: quote(text, safe="/:;,@!*'()")])
    encoded = encode(text)
    return encoded if rng.random() < 0.7 else encoded.replace("%C3", "%c3").replace("a", "%61")


@pytest.mark.parametrize("seed", range(300))
def test_client_and_sandbox_agree_on_a_random_request(seed):
    rng = random.Random(seed)
    pairs = [(drawn(rng, 6), drawn(rng, 9)) for _ in range(rng.randrange(7))]
    pairs += rng.sample(pairs, rng.randint(0, len(pairs)))
    pieces = [
        spelt(rng, name) + ("=" if value or rng.random() < 0.5 else "") + spelt(rng, value)
        for name, value in pairs
    ]
    query = "&".join(pieces)
    path = "/" + "/".join(quote(f"s{drawn(rng, 5)}", safe="") for _ in range(rng.randint(1, 4)))
    headers = {"X-Date": "20251103T070140Z", "X-User-Id": str(seed), "Host": "sandbox.example"}
    url = f"https://sandbox.example{path}?{query}"
    canonical = signing.canonical_request("GET", url, headers)
    key = hmac.new(KEYS[b"app-2"], None, hashlib.sha256)
    raw = {name.lower().encode(): value.encode() for name, value in headers.items()}
    raw[b"authorization"] = (
        "HMAC-SHA256 AppId=app-2,SignedHeaders=host;x-date;x-user-id,"
        f"Signature={signing.signature(key, canonical)}"
    ).encode()
    sent = path.encode(), query.encode()
    assert signatures.is_genuine("GET", *sent, raw, KEYS)
    assert not signatures.is_genuine("GET", sent[0] + b"x", sent[1], raw, KEYS)
    assert not signatures.is_genuine("GET", sent[0], b"x&" + sent[1], raw, KEYS)


@pytest.mark.parametrize("seed", range(20))
def test_what_requests_makes_of_random_parameters_is_taken(prepared, send, seed):
    rng = random.Random(seed)
    pairs = [(drawn(rng, 6), drawn(rng, 9)) for _ in range(5)]
    assert send(prepared(f"{BASE}/device", pairs)).status_code == 200
