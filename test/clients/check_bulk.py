"""Many records loaded in one region with BatchWriteItem, and compared item by item in another.

RECORDS says how many (6,000 unless told).
"""

import base64
import concurrent.futures as cf
import datetime
import gzip
import hashlib
import json
import os
import random
import sys
import tempfile
import time
import unittest
from decimal import Decimal

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from system import *

RECORDS = int(os.environ.get("RECORDS", "6000"))
SENSORS = 40


def record(i):
    """The i-th record, made to look like what applications keep: all types, nested, some large, not all ASCII."""
    rnd = random.Random(i)
    words = ["Ünal", "søk", "दिल्ली", "東京", "naïve", "plain", "O'Brien", 'quo"te', "back\\slash", "tab\there", "🙂", ""]
    at = datetime.datetime(2026, 1, 1) + datetime.timedelta(seconds=37 * i)
    item = {
        "sensor": f"sensor-{i % SENSORS:03d}",
        "at": Decimal(i) * Decimal("0.25") - 1000,
        "time": at.isoformat() + "Z",
        "reading": Decimal(rnd.getrandbits(60)) / Decimal(10) ** rnd.randrange(0, 17),
        "ok": rnd.random() < 0.9,
        "note": " ".join(rnd.choices(words, k=rnd.randrange(0, 12))),
        "digest": hashlib.sha256(str(i).encode()).digest(),
        "tags": set(rnd.sample(["red", "green", "blue", "heiß"], rnd.randrange(1, 4))),
        "codes": {Decimal(rnd.randrange(1000)) for _ in range(3)},
        "place": {"lat": Decimal(str(round(rnd.uniform(-90, 90), 6))), "name": rnd.choice(words), "more": [1, None, {"deep": [[]]}, b""]},
    }
    if i % 500 == 0:
        item["blob"] = rnd.randbytes(40_000)
    return item


def wire(item):
    make = TypeSerializer()
    return {k: make.serialize(v) for k, v in item.items()}


def unwired(value):
    """What boto3 makes of the JSON on the wire: binaries are base64 there."""
    if isinstance(value, list):
        return [unwired(v) for v in value]
    if not isinstance(value, dict):
        return value
    return {k: base64.b64decode(v) if k == "B" and isinstance(v, str) else [base64.b64decode(b) for b in v] if k == "BS" else unwired(v)
            for k, v in value.items()}


def key(item):
    return item["sensor"]["S"], Decimal(item["at"]["N"])


def canonical(item):
    """An item as Python values: sets compare without order, numbers by value."""
    take = TypeDeserializer()
    return {k: take.deserialize(v) for k, v in item.items()}


def load(client, table, numbers):
    batch = [{"PutRequest": {"Item": wire(record(i))}} for i in numbers]
    while batch:
        got = client.batch_write_item(RequestItems={table: batch})
        batch = got.get("UnprocessedItems", {}).get(table, [])


def pages(call, **args):
    while True:
        got = call(**args)
        yield got
        if "LastEvaluatedKey" not in got:
            return
        args["ExclusiveStartKey"] = got["LastEvaluatedKey"]


class Bulk(Case):
    @classmethod
    def setUpClass(cls):
        cls.c = all_clients(retries=3)
        start = time.monotonic()
        with cf.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda at: load(cls.c["oregon"], "readings", range(at, min(at + 25, RECORDS))), range(0, RECORDS, 25)))
        took = time.monotonic() - start
        settle()
        cls.report(f"{RECORDS} records loaded in {took:.1f} s ({RECORDS / took:.0f}/s), all over after {time.monotonic() - start - took:.1f} s more")
        cls.want = {key(wire(record(i))): canonical(wire(record(i))) for i in range(RECORDS)}

    @staticmethod
    def report(text):
        print(text, file=sys.stderr, flush=True)

    def compare(self, items):
        seen = set()
        for item in items:
            k = key(item)
            self.assertNotIn(k, seen, "seen twice")
            seen.add(k)
            self.assertEqual(canonical(item), self.want[k])
        self.assertEqual(len(seen), RECORDS)

    def test_scan(self):
        start = time.monotonic()
        got = [p for p in pages(self.c["mumbai"].scan, TableName="readings")]
        self.report(f"scan in mumbai: {time.monotonic() - start:.1f} s in {len(got)} pages")
        self.compare(i for p in got for i in p["Items"])
        for p in got:
            self.assertEqual(p["Count"], len(p["Items"]))

    def test_parallel_scan(self):
        def segment(i):
            return [x for p in pages(self.c["mumbai"].scan, TableName="readings", Segment=i, TotalSegments=4) for x in p["Items"]]

        with cf.ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(segment, range(4)))
        self.compare(x for p in parts for x in p)
        self.assertTrue(all(parts), "every segment has its share")

    def test_export_and_import(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "readings.json.gz")
            start = time.monotonic()
            run("export", "readings", path, "--region", "mumbai", timeout=120)
            self.report(f"export from mumbai: {RECORDS / (time.monotonic() - start):.0f}/s")
            with gzip.open(path, "rt") as f:
                self.compare(unwired(json.loads(line)["Item"]) for line in f)
            start = time.monotonic()
            self.assertIn(f"imported {RECORDS} items", run("import", "readings", folder, "--region", "paris", timeout=120))
            self.report(f"import in paris: {RECORDS / (time.monotonic() - start):.0f}/s")
        settle()
        self.compare(i for p in pages(self.c["oregon"].scan, TableName="readings") for i in p["Items"])

    def test_count(self):
        total = sum(p["Count"] for p in pages(self.c["paris"].scan, TableName="readings", Select="COUNT"))
        self.assertEqual(total, RECORDS)

    def test_query_pages(self):
        for forward in (True, False):
            got = []
            for sensor in range(0, SENSORS, 8):
                name = f"sensor-{sensor:03d}"
                part = []
                for p in pages(self.c["mumbai"].query, TableName="readings", Limit=37, ScanIndexForward=forward,
                               KeyConditionExpression="sensor = :s", ExpressionAttributeValues={":s": s(name)}):
                    self.assertLessEqual(len(p["Items"]), 37)
                    part += p["Items"]
                ats = [Decimal(i["at"]["N"]) for i in part]
                self.assertEqual(ats, sorted(ats, reverse=not forward), "numbers sort as numbers")
                self.assertEqual(len(part), len(range(sensor, RECORDS, SENSORS)))
                got += part
            for item in got:
                self.assertEqual(canonical(item), self.want[key(item)])

    def test_query_range_and_filter(self):
        low, high = Decimal(-500), Decimal(250)
        want = {k for k in self.want if k[0] == "sensor-007" and low <= k[1] <= high}
        self.assertTrue(want)
        args = dict(
            TableName="readings", KeyConditionExpression="sensor = :s AND #at BETWEEN :l AND :h",
            ExpressionAttributeNames={"#at": "at"},
            ExpressionAttributeValues={":s": s("sensor-007"), ":l": n(low), ":h": n(high)},
        )
        got = [i for p in pages(self.c["paris"].query, **args) for i in p["Items"]]
        self.assertEqual({key(i) for i in got}, want)
        args["ExpressionAttributeValues"][":t"] = {"BOOL": True}
        found, scanned = [], 0
        for p in pages(self.c["paris"].query, FilterExpression="ok = :t AND contains(tags, :g)", ProjectionExpression="sensor, #at, place.lat",
                       **{**args, "ExpressionAttributeValues": {**args["ExpressionAttributeValues"], ":g": s("green")}}):
            found += p["Items"]
            scanned += p["ScannedCount"]
        self.assertEqual(scanned, len(want))
        self.assertEqual({key(i) for i in found}, {k for k in want if self.want[k]["ok"] and "green" in self.want[k]["tags"]})
        for i in found:
            self.assertEqual(set(i), {"sensor", "at", "place"})
            self.assertEqual(set(i["place"]["M"]), {"lat"})

    def test_batch_get(self):
        rnd = random.Random(7)
        keys = rnd.sample(sorted(self.want), 100)
        ask = {"readings": {"Keys": [{"sensor": s(a), "at": n(b)} for a, b in keys]}}
        got = []
        while ask:
            answer = self.c["mumbai"].batch_get_item(RequestItems=ask)
            got += answer["Responses"].get("readings", [])
            ask = answer["UnprocessedKeys"]
        self.assertEqual({key(i) for i in got}, set(keys))
        for i in got:
            self.assertEqual(canonical(i), self.want[key(i)])

    def test_status_counts_them(self):
        tables = {t["name"]: t for t in run_json("status")["tables"]}
        self.assertEqual(tables["readings"]["items"], RECORDS)


if __name__ == "__main__":
    unittest.main(verbosity=2)
