"""How fast and how frugal fetching is, beside the obvious ways to do the same.

Prints a Markdown table; each figure is the median of five runs in which both sides alternate. The
sandbox runs in a process of its own.

    python tests/benchmarks/fetching.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.json
import requests
from measuring import HEADER, LATENCY_S, alternate, machine, row, sandbox, timed, told_by

import koodrive_nb as kd
from koodrive_nb import decode, envelope
from koodrive_nb.sandbox.crowd import Crowd
from koodrive_nb.streams import Stream

RECORD = "/koodrive/ose/v1/backup/record"
LIST_THE_CROWD = """
import sys
import koodrive_nb as kd
from measuring import forget_peak, kib

endpoint, app_id, secret, pages = sys.argv[1:]
auth = kd.AppAuth(app_id, secret)
client = kd.connect(endpoint=endpoint, auth=auth, user_id="crowd", progress=False)
client.records(max_pages=1)
before = kib("VmRSS")
forget_peak()
frame = client.records(max_pages=int(pages) or None)
print(kib("VmHWM") - before, frame.memory_usage(deep=True).sum() / 1024)
"""


def decoding(runs, rows):
    """Compare reading pages of 100 records with the obvious way, and with one bulk read."""
    crowd = Crowd()
    pages = [
        b'{"data":[%s],"nextCursor":"x","code":0,"msg":"success"}'
        % b",".join(crowd.page("101", None, start, start + 100)[0])
        for start in range(0, rows, 100)
    ]

    def read(page):
        return envelope.read(
            envelope.Exchange("", 200, page, "sandbox", "", ()), is_listing=True
        ).rows

    bulk = b"\n".join(row for page in pages for row in read(page))

    def ours():
        stream = Stream(
            "sandbox", "crowd", "records", "album", fetched_at=pd.Timestamp(0, tz="UTC")
        )
        tables, waiting = [], []
        for page in pages:
            waiting += read(page)
            if len(waiting) >= 10_000:
                tables.append(decode.read_rows(waiting, stream))
                waiting = []
        tables.append(decode.read_rows(waiting, stream)) if waiting else None
        assert len(decode.to_frame([(stream, tables)], "records")) == rows

    def obvious():
        found = [row for page in pages for row in json.loads(page)["data"]]
        frame = pd.json_normalize(found)
        for name in ("createTime", "endTime", "deviceInfo.createTime"):
            frame[name] = pd.to_datetime(frame[name])

    def in_bulk():
        pyarrow.json.read_json(
            pa.BufferReader(bulk), read_options=pyarrow.json.ReadOptions(use_threads=False)
        )

    ours_s, obvious_s, bulk_s = alternate(runs, timed(ours), timed(obvious), timed(in_bulk))
    what = f"decode {rows:,} records in pages of 100"
    yield what, "json.loads + json_normalize + to_datetime", ours_s, obvious_s, "s", 5.0, "faster"
    yield what, "one bulk read by pyarrow, one thread", ours_s, bulk_s, "s", 1.5, "at most"


def listing(runs, pages):
    """Compare a listing with the least time its longest module can take."""
    with sandbox(LATENCY_S) as (endpoint, app_id, secret):
        auth = kd.AppAuth(app_id, secret)
        with kd.connect(endpoint=endpoint, auth=auth, user_id="crowd", progress=False) as client:
            (ours_s,) = alternate(runs, timed(lambda: client.records(max_pages=pages)))
    what = f"list 3 modules of {pages} pages, 50 ms each"
    yield what, f"{pages} pages x 50 ms", ours_s, pages * LATENCY_S, "s", 1.15, "at most"


def by_id(runs, count, looped):
    """Compare many records by id with a loop over them, of which a part is measured."""
    with sandbox(LATENCY_S) as (endpoint, app_id, secret):
        auth = kd.AppAuth(app_id, secret)
        with kd.connect(
            endpoint=endpoint, auth=auth, user_id="crowd", max_workers=16, progress=False
        ) as client:
            found = client.records(module="101", max_pages=-(-count // 100))
            ids = list(found["record_id"])[:count]

            def ours():
                assert len(client.records_by_id(ids)) == count

            def loop():
                started = time.perf_counter()
                for identity in ids[:looped]:
                    path = f"{RECORD}/{identity}"
                    headers = {"X-User-Id": "crowd", "X-Date": stamp()}
                    answer = requests.get(endpoint + path, headers=headers, auth=auth, timeout=60)
                    assert answer.json()["code"] == 0
                return (time.perf_counter() - started) * count / looped

            ours_s, loop_s = alternate(runs, timed(ours), loop)
    what = f"{count:,} records by id, 50 ms each, 16 workers"
    beside = f"a loop of requests.get ({looped} measured)"
    yield what, beside, ours_s, loop_s, "s", 12.0, "faster"


def processor(runs, pages):
    """Compare the processor time of a page with that of fetching its bytes."""
    with sandbox(0) as (endpoint, app_id, secret):
        auth = kd.AppAuth(app_id, secret)
        url = f"{endpoint}{RECORD}?moduleCode=101&pageSize=100"
        with (
            kd.connect(endpoint=endpoint, auth=auth, user_id="crowd", progress=False) as client,
            requests.Session() as session,
        ):

            def ours():
                started = time.process_time()
                client.records(module="101", max_pages=pages)
                return 1000 * (time.process_time() - started) / pages

            def bare():
                headers = {"X-User-Id": "crowd", "X-Date": stamp()}
                request = requests.Request("GET", url, headers=headers, auth=auth).prepare()
                started = time.process_time()
                for _ in range(pages):
                    assert session.get(url, headers=request.headers, timeout=60).content
                return 1000 * (time.process_time() - started) / pages

            ours_ms, bare_ms = alternate(runs, ours, bare)
    what = "processor time of a page, signed and decoded"
    yield what, "a bare requests.Session.get(...).content", ours_ms, bare_ms, "ms", 1.6, "at most"


def memory(runs, pages):
    """Compare the peak of memory above what was there with the size of the frame."""
    with sandbox(0) as service:
        command = [sys.executable, "-c", LIST_THE_CROWD, *service, str(pages)]
        peaks, sizes = [], []
        for _ in range(runs):
            told = told_by(command)
            peak, size = map(float, told.split())
            peaks.append(peak / 1024)
            sizes.append(size / 1024)
    what = f"peak memory of listing {300 * pages or 1_000_000:,} records"
    beside = "the frame, memory_usage(deep=True)"
    yield what, beside, statistics.median(peaks), statistics.median(sizes), "MiB", 2.5, "at most"


def stamp():
    """Write an X-Date."""
    return f"{datetime.now(UTC) - timedelta(seconds=5):%Y%m%dT%H%M%SZ}"


def main(arguments=None):
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description="Measure fetching beside the obvious ways.")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs")
    is_quick = parser.parse_args(arguments).quick
    runs = 1 if is_quick else 5
    parts = (
        [decoding(1, 1000), listing(1, 2), by_id(1, 20, 2), processor(1, 5), memory(1, 2)]
        if is_quick
        else [
            decoding(runs, 100_000),
            listing(runs, 60),
            by_id(runs, 2000, 200),
            processor(runs, 400),
            memory(runs, 0),
        ]
    )
    print(HEADER)
    for part in parts:
        for what, beside, here, there, unit, aim, sense in part:
            ratio = there / here if sense == "faster" else here / there
            reached = ratio >= aim if sense == "faster" else ratio <= aim
            aimed = f"≥ {aim:g} x faster" if sense == "faster" else f"≤ {aim:g} x"
            print(row(what, beside, here, there, unit, ratio, aimed, reached), flush=True)
    kind = "one run each" if is_quick else f"median of {runs} alternating runs"
    print(f"\n{machine('requests', 'pandas', 'pyarrow')}; {kind}.")


if __name__ == "__main__":
    main()
