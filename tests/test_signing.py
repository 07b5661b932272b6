import hashlib
import hmac
import random
from urllib.parse import quote, urlencode

import pytest

from koodrive_nb import signing

SECRET = b"sandbox-app-secret"
RECORD = "https://sandbox.example/koodrive/ose/v1/backup/record/1842862763295184641"
LISTING = "https://sandbox.example/koodrive/ose/v1/backup/record"
LOCK = "https://sandbox.example/koodrive/ose/v1/backup/lock"
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
TWO = {"X-Date": "20251103T070140Z", "X-User-Id": "1505084218764547200"}
THREE = TWO | {"Host": "sandbox.example"}
QUERY = urlencode({"pageSize": 100, "moduleCode": 101, "cursor": "a b/c+d=~"})
V1_TEXT = (
    "GET\n/koodrive/ose/v1/backup/record/1842862763295184641/\n\nhost:sandbox.example\n"
    "x-date:20251103T070140Z\nx-user-id:1505084218764547200\n\nhost;x-date;x-user-id\n"
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)


def path_line(url):
    return signing.canonical_request("GET", url, TWO).split("\n")[1]


def query_line(query):
    return signing.canonical_request("GET", f"{LISTING}?{query}", TWO).split("\n")[2]


@pytest.mark.parametrize(
    ("asked", "hashed", "signed"),
    [
        (
            ("GET", RECORD, THREE),
            "71d476ff209c1317fc890b666595c99ba09828546b01bf557d062f07db0bcdbb",
            "3d44a0297cb1abb1e8d5ef482751e375e277258d3889821763352831ffd279e3",
        ),
        (
            ("GET", f"{LISTING}?{QUERY}", THREE),
            "b9a06b3a69f8eaa25443f5bf6eeab20927ce65c2b9dd8166c3657a5fc2a79d33",
            "4aa5396e28aa469874048c1f4d343ece84fede4b265f56438434bad1258ed9b9",
        ),
        (
            ("POST", LOCK, THREE, b'{"moduleCode":"102"}'),
            "5969f5ab98a13133d5a8c188319b205e0873a304b2ac2e901dfc8dcc888b772d",
            "1ce55992f8302c3b34550641acf02f1556da934f72019d655a58bc53c7e4add0",
        ),
        (
            ("GET", RECORD, TWO),
            "859f1ebbff1d5e7aa3a53bb6d9f29fdef3077cb5727ae04224f3df6654eefe53",
            "de0ea8c9574aa262b352a375324422a28e1feabb491ffe6c8f4ae871e2d5708b",
        ),
    ],
    ids=["V1", "V2", "V3", "V4"],
)
def test_the_vectors_come_out_as_computed_by_hand(asked, hashed, signed):
    canonical = signing.canonical_request(*asked)
    assert hashlib.sha256(canonical.encode()).hexdigest() == hashed
    assert signing.signature(hmac.new(SECRET, None, hashlib.sha256), canonical) == signed


def test_the_canonical_request_of_the_first_vector_is_the_one_written_down():
    assert signing.canonical_request("GET", RECORD, THREE) == V1_TEXT


def test_the_query_line_of_the_second_vector_is_the_one_written_down():
    assert query_line(QUERY) == "cursor=a%20b%2Fc%2Bd%3D~&moduleCode=101&pageSize=100"


def test_a_key_signs_again_and_again():
    key = hmac.new(SECRET, None, hashlib.sha256)
    first = signing.signature(key, V1_TEXT)
    assert signing.signature(key, "something else") != first
    assert signing.signature(key, V1_TEXT) == first


def test_another_secret_signs_otherwise():
    signed = {
        signing.signature(hmac.new(secret, None, hashlib.sha256), V1_TEXT)
        for secret in (SECRET, SECRET + b"\n", SECRET.upper())
    }
    assert len(signed) == 3


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("", ""),
        ("a=", "a="),
        ("a", "a="),
        ("a&b", "a=&b="),
        ("=x", "=x"),
        ("a=1&", "a=1"),
        ("a=1&&b=2", "a=1&b=2"),
        ("a==b=", "a=%3Db%3D"),
        ("b=1&a=2", "a=2&b=1"),
        ("a=2&a=1&a=10", "a=1&a=10&a=2"),
        ("a=&a=0&a", "a=&a=&a=0"),
        ("a=1&B=2&_=3", "B=2&_=3&a=1"),
        ("a-b=1&a=2", "a=2&a-b=1"),
        ("a=AZaz09-_.~", "a=AZaz09-_.~"),
        ("a=%7E%2D%5f", "a=~-_"),
        ("a=b%20c", "a=b%20c"),
        ("a=b+c", "a=b%20c"),
        ("a=b%2Bc", "a=b%2Bc"),
        ("a=b/c?d", "a=b%2Fc%3Fd"),
        ("a=%252F", "a=%252F"),
        ("a=100%", "a=100%25"),
        ("a=!*'()", "a=%21%2A%27%28%29"),
        ("a=x;b=y", "a=x%3Bb%3Dy"),
        ("a=%c3%a9", "a=%C3%A9"),
        ("a=é", "a=%C3%A9"),
        ("a=%E7%9B%B8%E5%86%8C", "a=%E7%9B%B8%E5%86%8C"),
        ("a=\U0001f4f1", "a=%F0%9F%93%B1"),
        ("名=值", "%E5%90%8D=%E5%80%BC"),
        ("a%26b=c%3Dd", "a%26b=c%3Dd"),
    ],
)
def test_a_query_is_decoded_encoded_and_sorted_by_name(query, line):
    assert query_line(query) == line


def test_parameters_are_sorted_as_encoded_upper_case_first():
    pairs = [("b", "2"), ("é", "1"), ("a", "~"), ("B", "+"), ("a", " "), ("a", "")]
    assert signing.canonical_query(pairs) == "%C3%A9=1&B=%2B&a=&a=%20&a=~&b=2"


def test_the_order_in_a_url_does_not_matter():
    pairs = [(f"name{number % 7}", str(number)) for number in range(40)]
    lines = set()
    for seed in range(10):
        random.Random(seed).shuffle(pairs)
        lines.add(query_line(urlencode(pairs)))
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("https://host", "/"),
        ("https://host/", "/"),
        ("https://host/a/b", "/a/b/"),
        ("https://host/a/b/", "/a/b/"),
        ("https://host/a%20b/c", "/a%20b/c/"),
        ("https://host/a+b", "/a%2Bb/"),
        ("https://host/a~b-c_d.e", "/a~b-c_d.e/"),
        ("https://host/%7e%2d", "/~-/"),
        ("https://host/a%2Fb", "/a%2Fb/"),
        ("https://host/a:b@c", "/a%3Ab%40c/"),
        ("https://host/%e7%9b%b8", "/%E7%9B%B8/"),
        (f"https://host/{quote('é')}?a=/", "/%C3%A9/"),
        ("https://host/a#b/c", "/a/"),
    ],
)
def test_a_path_is_encoded_by_segment_and_ends_in_a_slash(url, line):
    assert path_line(url) == line


@pytest.mark.parametrize(
    "headers",
    [
        {"x-date": "20251103T070140Z", "x-user-id": "1505084218764547200"},
        {"X-USER-ID": "1505084218764547200", "X-DATE": "20251103T070140Z"},
        {"X-Date": "  20251103T070140Z ", "X-User-Id": "\t1505084218764547200  "},
    ],
)
def test_header_names_are_lower_case_and_sorted_and_values_trimmed(headers):
    assert signing.canonical_request("GET", RECORD, headers) == signing.canonical_request(
        "GET", RECORD, TWO
    )


def test_blanks_inside_a_value_are_kept():
    lines = signing.canonical_request("GET", RECORD, TWO | {"X-Note": " a  b "}).split("\n")
    assert lines[3:8] == [
        "x-date:20251103T070140Z",
        "x-note:a  b",
        "x-user-id:1505084218764547200",
        "",
        "x-date;x-note;x-user-id",
    ]


def test_the_method_is_upper_case():
    assert signing.canonical_request("get", RECORD, THREE) == V1_TEXT


def test_the_last_line_is_the_hash_of_the_body():
    def last(body):
        return signing.canonical_request("POST", LOCK, TWO, body).split("\n")[-1]

    assert last(b"") == EMPTY_SHA256
    assert last(b"x") == hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    ("method", "url", "headers", "body"),
    [
        ("PUT", RECORD, THREE, b""),
        ("GET", RECORD[:-1], THREE, b""),
        ("GET", f"{RECORD}?a=", THREE, b""),
        ("GET", RECORD, TWO, b""),
        ("GET", RECORD, THREE | {"X-User-Id": "2"}, b""),
        ("GET", RECORD, THREE | {"X-Date": "20251103T070141Z"}, b""),
        ("GET", RECORD, THREE | {"Host": "sandbox.example:1"}, b""),
        ("GET", RECORD, THREE, b"x"),
    ],
)
def test_every_part_counts(method, url, headers, body):
    assert signing.canonical_request(method, url, headers, body) != V1_TEXT
