"""How fetching many users compares with what an analyst would write for it by hand.

Prints a Markdown table; each figure is the median of five runs in which all ways alternate, each
run in a process of its own. The sandbox runs in another one, on the same processors. All ways sign
alike, fetch records and devices, and end with two DataFrames. Those by hand neither retry nor check
that what came is whole, keep records that come twice and times as text, and look up no devices that
records do not name.

    python tests/benchmarks/comparing.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import httpx
import pandas as pd
import requests
from measuring import LATENCY_S, forget_peak, kib, machine, sandbox, told_by

import koodrive_nb as kd

CONNECTIONS = 8
RECORD = "/koodrive/ose/v1/backup/record"
DEVICE = "/koodrive/ose/v1/backup/device"
LISTINGS = [(RECORD, {"moduleCode": code}) for code in ("100", "101", "102")] + [(DEVICE, {})]


def ours(endpoint, auth, users):
    """Fetch as the package does."""
    with kd.connect(
        endpoint=endpoint, auth=auth, user_id="x", max_workers=CONNECTIONS, progress=False
    ) as client:
        fleet = kd.fleet.fetch(client, users)
    return fleet.records, fleet.devices


def by_requests(endpoint, auth, users):
    """Fetch one page after the other over one connection."""
    found = {RECORD: [], DEVICE: []}
    with requests.Session() as session:
        session.auth = auth
        for user in users:
            for path, query in LISTINGS:
                cursor = None
                while True:
                    answer = session.get(
                        endpoint + path,
                        params={"pageSize": 100, **query} | ({"cursor": cursor} if cursor else {}),
                        headers={"X-User-Id": user, "X-Date": now()},
                        timeout=60,
                    )
                    answer.raise_for_status()
                    page = answer.json()
                    found[path] += [row | {"user_id": user} for row in page["data"]]
                    cursor = page.get("nextCursor")
                    if not cursor:
                        break
    return tuple(map(pd.json_normalize, found.values()))


class Signed(httpx.Auth):
    """Sign as `kd.AppAuth` does, which knows the requests of another library."""

    def __init__(self, auth):
        self.auth = auth

    def auth_flow(self, request):
        """Sign one request."""
        headers = {name: request.headers[name] for name in ("X-Date", "X-User-Id")}
        twin = SimpleNamespace(method="GET", url=request.url, headers=headers, body=b"")
        request.headers.update(self.auth(twin).headers)
        yield request


def by_httpx(endpoint, auth, users):
    """Fetch as many listings at once as the package does, over as many connections."""
    return asyncio.run(gathered(endpoint, Signed(auth), users))


async def gathered(endpoint, auth, users):
    """Gather the listings of all users."""
    limits = httpx.Limits(max_connections=CONNECTIONS)
    # Hundreds that queue for a connection inside httpx cost it more than the requests.
    gate = asyncio.Semaphore(CONNECTIONS)
    async with httpx.AsyncClient(base_url=endpoint, auth=auth, limits=limits, timeout=60) as client:

        async def in_turn(*one):
            async with gate:
                return await listed(*one)

        async def listed(user, path, query):
            rows, cursor = [], None
            while True:
                answer = await client.get(
                    path,
                    params={"pageSize": 100, **query} | ({"cursor": cursor} if cursor else {}),
                    headers={"X-User-Id": user, "X-Date": now()},
                )
                answer.raise_for_status()
                page = answer.json()
                rows += [row | {"user_id": user} for row in page["data"]]
                cursor = page.get("nextCursor")
                if not cursor:
                    return rows

        asked = [(user, path, query) for user in users for path, query in LISTINGS]
        pages = await asyncio.gather(*(in_turn(*one) for one in asked))
    found = {RECORD: [], DEVICE: []}
    for (_, path, _), rows in zip(asked, pages, strict=True):
        found[path] += rows
    return tuple(map(pd.json_normalize, found.values()))


WAYS = {
    "`kd.fleet.fetch`": ours,
    "a loop over `requests.Session`": by_requests,
    "`httpx.AsyncClient`": by_httpx,
}


def now():
    """Write an X-Date."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def measured(way, count, endpoint, app_id, secret):
    """Take the time and memory of one way, once all is imported."""
    auth, users = kd.AppAuth(app_id, secret), list(kd.sandbox.users()["user_id"])
    WAYS[way](endpoint, auth, users[-2:])
    before = kib("VmRSS")
    forget_peak()
    started, processor = time.perf_counter(), time.process_time()
    records, devices = WAYS[way](endpoint, auth, users[:count])
    return {
        "s": time.perf_counter() - started,
        "processor_s": time.process_time() - processor,
        "mib": (kib("VmHWM") - before) / 1024,
        "rows": [len(records), len(devices)],
    }


def main(arguments=None):
    """Measure each way at each latency and print the table."""
    parser = argparse.ArgumentParser(description="Compare fetching with doing it by hand.")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        way, count, *service = given.one
        print(json.dumps(measured(way, int(count), *service)))
        return
    runs, count = (1, 2) if given.quick else (5, 100)
    print("| way | latency | records | time | processor time | peak memory |")
    print("|---|---|---|---|---|---|")
    for latency_s in (0, LATENCY_S):
        told = {way: [] for way in WAYS}
        with sandbox(latency_s) as service:
            for _ in range(runs):
                for way, results in told.items():
                    command = [sys.executable, __file__, "--one", way, str(count), *service]
                    results.append(json.loads(told_by(command)))
        for way, results in told.items():
            s, processor_s, mib = (
                statistics.median(result[name] for result in results)
                for name in ("s", "processor_s", "mib")
            )
            print(
                f"| {way} | {1000 * latency_s:.0f} ms | {results[0]['rows'][0]:,} | {s:.2f} s "
                f"| {processor_s:.2f} s | {mib:.0f} MiB |",
                flush=True,
            )
    kind = "one run each" if given.quick else f"median of {runs} alternating runs"
    print(f"\n{machine('requests', 'httpx', 'pandas')}; {kind}.")


if __name__ == "__main__":
    main()
