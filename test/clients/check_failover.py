"""Regions that are lost, frozen, cut off and switched while clients write: what was acknowledged is there or listed."""

import random
import sys
import unittest
import urllib.request

from system import *

SEED = int(os.environ.get("ANTIPODE_SEED") or random.randrange(1 << 32))
TABLES = ("orders", "guests")  # those that fail over by lease
TAKEOVER = 5  # seconds, the promise: by then writes succeed elsewhere
OTHERS = ("mumbai", "paris")


class Ledger:
    """Clients of all regions that write and read, each in a thread of its own, and what they were answered."""

    def __init__(self, regions=REGIONS, rest=0.02):
        self.entries, self.lock, self.ending = [], threading.Lock(), threading.Event()
        self.rest, self.threads = rest, []
        self.name = f"{random.getrandbits(24):06x}"
        for region in regions:
            c = client(region, timeout=15)
            for table in TABLES:
                for verb in (self.put, self.add, self.read):
                    self.threads.append(threading.Thread(target=self.work, args=(c, region, table, verb), daemon=True))

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for t in self.threads:
            t.join(40)

    def work(self, c, region, table, verb):
        i = 0
        while not self.ending.is_set():
            i += 1
            start, error, got = time.monotonic(), None, None
            key = f"{self.name}-{region}-{verb.__name__}-{i}" if verb == self.put else f"{self.name}-count-{i % 3}"
            try:
                got = verb(c, table, key)
            except ClientError as e:
                error = e.response["Error"]
            except Exception as e:  # a region that was killed says nothing at all
                error = {"Code": type(e).__name__, "Message": str(e)}
            with self.lock:
                self.entries.append(
                    {"start": start, "end": time.monotonic(), "region": region, "table": table, "verb": verb.__name__, "key": key, "error": error, "got": got}
                )
            time.sleep(self.rest if error is None else 0.05)

    @staticmethod
    def put(c, table, key):
        c.put_item(TableName=table, Item={"id": s(key), "v": n(1)})

    @staticmethod
    def add(c, table, key):
        got = c.update_item(TableName=table, Key={"id": s(key)}, UpdateExpression="ADD v :one",
                            ExpressionAttributeValues={":one": n(1)}, ReturnValues="UPDATED_NEW")
        return int(got["Attributes"]["v"]["N"])

    @staticmethod
    def read(c, table, key):
        return c.get_item(TableName=table, Key={"id": s(key)}).get("Item")

    def of(self, **want):
        with self.lock:
            return [e for e in self.entries if all(e[k] == v for k, v in want.items())]

    def silence(self, region, table, since):
        """The longest time in which no write to a table was answered well in a region, from then on."""
        at = [since] + sorted(e["end"] for e in self.of(region=region, table=table, error=None) if e["verb"] != "read" and e["end"] > since)
        return max([b - a for a, b in zip(at, at[1:])], default=float("inf"))


def stranded(*more):
    return run_json("stranded", "list", *more)["stranded"]


def items(region, table):
    out = {}
    for page in client(region).get_paginator("scan").paginate(TableName=table):
        out.update((i["id"]["S"], i) for i in page["Items"])
    return out


def set_clock(region, hours):
    """Sets the wall clock of a region, as somebody with its operator token may where links are emulated."""
    url = re.search(rf"^{region} .*?(http://\S+) +(http://\S+)", open(UP_LOG).read(), re.M).group(2)
    token = open(os.path.join(DATA, region, "operator.token")).read().strip()
    body = json.dumps({"offset_ms": hours * 3600_000}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{url}/v1/clock", body, {"Authorization": f"Bearer {token}"}), timeout=10).close()


def holder(table, home=""):
    """Who accepts writes to a table, or to those of its items that belong to a region."""
    return next(r["holder"] for r in run_json("status")["roles"] if (r["table"], r.get("home") or "") == (table, home))


class Failover(Case):
    @classmethod
    def setUpClass(cls):
        random.seed(SEED)
        print(f"ANTIPODE_SEED={SEED}", file=sys.stderr)

    @classmethod
    def tearDownClass(cls):
        Restarted.stop_all()

    def setUp(self):
        until(lambda: all(x == "live" for x in states().values()), 30, "all regions to be live")
        for table in TABLES:
            run("switch", table, "--to", "oregon", "--by", "check")

    def account(self, ledger, lost=None):
        """All regions are equal, and what was acknowledged is there or listed, and nothing else is listed."""
        settle()
        by_key = {}
        for w in stranded("--all"):
            if w["key"]["id"]["S"].startswith(ledger.name):
                self.assertEqual(w["dot"].split(":")[0], lost, "only the lost region strands writes")
                by_key.setdefault((w["table"], w["key"]["id"]["S"]), []).append(w)
        vanished = 0
        for table in TABLES:
            have = items("oregon", table)
            for r in OTHERS:
                self.assertEqual(items(r, table), have, f"{table} in {r} and oregon")
            for e in ledger.of(table=table, verb="put", error=None):
                if e["key"] not in have:
                    vanished += 1
                    self.assertIn((table, e["key"]), by_key, f"acknowledged, gone and not listed: {e}")
            for key in {e["key"] for e in ledger.of(table=table, verb="add")}:
                adds = ledger.of(table=table, verb="add", key=key)
                acked = [e["got"] for e in adds if e["error"] is None]
                unknown = sum(e["error"] is not None and "nothing was written" not in e["error"]["Message"] for e in adds)
                aside = [int(w["item"]["v"]["N"]) for w in by_key.get((table, key), [])]
                count = int(have[key]["v"]["N"]) if key in have else 0
                self.assertGreaterEqual(count, len(acked) - len(aside), f"{table} {key}: {len(acked)} acknowledged, {len(aside)} listed")
                self.assertLessEqual(count, len(acked) + unknown, f"{table} {key}: {len(acked)} acknowledged, {unknown} unknown")
                for v in set(acked):  # twice only if one of the two is listed
                    self.assertLessEqual(acked.count(v), 1 + aside.count(v), f"{table} {key}: {v} was answered more than once")
        for r in OTHERS:
            self.assertEqual([w["dot"] for w in stranded("--all", "--region", r)], [w["dot"] for w in stranded("--all", "--region", "oregon")], r)
        return vanished

    def reads_went_on(self, ledger, regions):
        for r in regions:
            failed = [e for e in ledger.of(region=r, verb="read") if e["error"]]
            self.assertEqual(failed[:3], [], f"{len(failed)} eventually consistent reads failed in {r}")

    def took_over(self, ledger, since):
        """In time, and in one place."""
        for table in TABLES:
            for r in OTHERS:
                self.assertLess(ledger.silence(r, table, since), TAKEOVER, f"writes to {table} through {r}")
        heirs = {holder("orders"), holder("guests", "oregon")}
        self.assertFalse("oregon" in heirs, heirs)

    def test_killed(self):
        """SIGKILL of the writer under load."""
        with Ledger() as ledger:
            time.sleep(random.uniform(1.5, 2.5))
            start = time.monotonic()
            command = Restarted.kill("oregon")
            time.sleep(start + TAKEOVER + 2 - time.monotonic())
            self.took_over(ledger, start)
            self.assertIn("oregon", run("failover", "list"))
            Restarted.start("oregon", command)
            time.sleep(1)
        self.reads_went_on(ledger, OTHERS)
        lost = self.account(ledger, "oregon")
        print(f"killed: {lost} acknowledged writes were set aside", file=sys.stderr)

    def test_frozen(self):
        """SIGSTOP for longer than the lease: a writer that wakes accepts nothing under its old right."""
        with Ledger() as ledger:
            time.sleep(random.uniform(1, 2))
            pid, start = region_pid("oregon"), time.monotonic()
            os.kill(pid, signal.SIGSTOP)
            try:
                time.sleep(TAKEOVER + random.uniform(1, 2))
                self.took_over(ledger, start)
            finally:
                os.kill(pid, signal.SIGCONT)
            until(lambda: states()["oregon"] == "live", 20, "oregon to be back")
        self.reads_went_on(ledger, OTHERS)
        self.account(ledger, "oregon")

    def test_isolated(self):
        """All links of the writer are cut, and its clients still reach it. Then what was set aside is decided on."""
        with Ledger() as ledger:
            time.sleep(random.uniform(1, 2))
            start = time.monotonic()
            for r in OTHERS:
                cut("oregon", r)
            try:
                until(lambda: states()["oregon"] == "detached", 6, "oregon to know that it is alone")
                time.sleep(max(0, start + TAKEOVER + 1 - time.monotonic()))
                self.took_over(ledger, start)
                late = [e for e in ledger.of(region="oregon") if e["verb"] != "read" and e["start"] > start + 3.2]
                self.assertGreater(len(late), 10)
                for e in late:
                    self.assertIsNotNone(e["error"], f"oregon accepts writes after its lease: {e}")
                    self.assertIn(e["error"]["Code"], ("InternalServerError", "OutcomeUnknownException"), e)
                self.refused("InternalServerError", client("oregon").get_item, TableName="orders", Key={"id": s("x")}, ConsistentRead=True, says="oregon")
                done = run("switch", "orders", "--to", "oregon", "--by", "check", check=False)
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn("oregon reaches 1 of 3", done.stderr)
                self.assertIn("oregon to ", run("failover", "list"))
            finally:
                for r in OTHERS:
                    heal("oregon", r)
            until(lambda: states()["oregon"] == "live", 20, "oregon to be back")
        self.reads_went_on(ledger, REGIONS)
        self.assertGreater(self.account(ledger, "oregon"), 0, "writes that oregon alone had")

        mine = [w for w in stranded("oregon") if w["key"]["id"]["S"].startswith(ledger.name + "-oregon") and w["now"] is None]
        restored, dropped = mine[0], mine[1]
        run("stranded", "restore", restored["dot"], "--by", "check")
        for r in REGIONS:
            key = {"id": restored["key"]["id"]}
            until(lambda: client(r).get_item(TableName=restored["table"], Key=key).get("Item") == restored["item"], 5, f"{restored['key']} to be in {r}")
        run("stranded", "discard", dropped["dot"], "--by", "check")
        for again in ("restore", "discard"):
            done = run("stranded", again, dropped["dot"], "--by", "check", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("discarded by check", done.stderr)
        self.assertEqual({w["state"] for w in stranded("--all") if w["dot"] in (restored["dot"], dropped["dot"])}, {"restored", "discarded"})

    def test_pair_cut(self):
        """Two regions that don't reach each other, and both reach the third: nothing moves."""
        before = run_json("status")["roles"]
        with Ledger(rest=0.05) as ledger:
            start = time.monotonic()
            cut("oregon", "mumbai")
            try:
                time.sleep(6)
                self.assertEqual(run_json("status")["roles"], before)
            finally:
                heal("oregon", "mumbai")
            until(lambda: states()["mumbai"] == "live", 20, "mumbai to be whole")
        self.reads_went_on(ledger, REGIONS)
        # If mumbai leads the control group, oregon's lease may end before paris leads.
        self.assertLess(ledger.silence("oregon", "orders", start), TAKEOVER)
        self.assertEqual(self.account(ledger), 0)

    def test_switched(self):
        """Planned, of a table and of a region, under load from everywhere: no write fails."""
        with Ledger(rest=0.05) as ledger:
            for what, to in (("orders", "mumbai"), ("orders", "oregon"), ("oregon", "paris")):
                time.sleep(1)
                run("switch", what, "--to", to, "--by", "check")
                until(lambda: holder("orders") == to, 5, "all to know who accepts writes")
            until(lambda: holder("guests", "oregon") == "paris", 5, "all to know who accepts writes")
            time.sleep(1)
        self.assertEqual([e for e in ledger.of() if e["error"]], [])
        self.assertEqual(self.account(ledger), 0)
        run("switch", "catalog", "--to", "oregon", "--by", "check")
        run("switch", "paris", "--to", "oregon", "--by", "check")

    def test_switch_command_killed(self):
        """SIGKILL of the command: the switch is not begun, or goes through."""
        with Ledger(rest=0.1) as ledger:
            for to in ("mumbai", "oregon"):
                command = [ANTIPODE, "switch", "orders", "--to", to, "--by", "check", "--data", DATA]
                p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(random.uniform(0.05, 0.6))
                p.kill()
                p.wait()
                until(lambda: not any(r.get("next") for r in run_json("status")["roles"]), 10, "no role to be on its way")
                run("switch", "orders", "--to", to, "--by", "check")
                until(lambda: holder("orders") == to, 5, "all to know who accepts writes")
        self.assertEqual([e for e in ledger.of() if e["error"]], [])
        self.assertEqual(self.account(ledger), 0)

    def test_clocks(self):
        """A wall clock an hour ahead or behind, at the writer or elsewhere: no lease depends on it, and no write gets its time."""
        before = run_json("failover", "list")["failovers"]
        with Ledger(rest=0.1) as ledger:
            for region, hours in (("oregon", 1), ("oregon", -1), ("mumbai", 1)):
                time.sleep(1)
                set_clock(region, hours)
                try:
                    time.sleep(4)  # longer than a lease
                    until(lambda: holder("orders") == "oregon", 5, "all to know who accepts writes")
                    if hours > 0:
                        other = "paris" if region == "oregon" else "oregon"
                        done = run("switch", "pairing" if region == "mumbai" else "orders", "--to", other, "--by", "check")
                        self.assertIn(f"{other} accepts writes", done)
                        said = []

                        def refused():  # before it knows that it has handed over it says that there is nothing to switch
                            said.append(run("switch", "orders", "--to", region, "--by", "check", check=False))
                            return said[-1].returncode == 1

                        until(refused, 5, "the switch to be refused")
                        self.assertIn(f"{region} accepts no writes: clock ahead of its peers", said[-1].stderr)
                finally:
                    set_clock(region, 0)
                until(lambda: all(x == "live" for x in states().values()), 20, "all regions to be live")
                run("switch", "orders", "--to", "oregon", "--by", "check")
        run("switch", "pairing", "--to", "mumbai", "--by", "check")
        for e in ledger.of():
            if e["error"] and e["verb"] != "read":  # what a client says of its own time can't be right there
                self.assertRegex(e["error"]["Message"], "clock ahead of its peers|Signature (expired|not yet current)", e)
        self.assertEqual(run_json("failover", "list")["failovers"], before)
        self.assertEqual(self.account(ledger), 0)

    def test_two_people(self):
        """Two people fail the same region over at once: one does it, the other is told; pinned tables move, once."""
        command = Restarted.kill("oregon")
        until(lambda: "oregon is detached" in run("failover", "list", "--region", "mumbai"), 15, "oregon to be given up")
        words = ["failover", "oregon", "--yes", "oregon", "--why", "drill", "--data", DATA]
        both = [subprocess.Popen([ANTIPODE, *words, "--by", at, "--at", at], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for at in OTHERS]
        said = [(p.communicate(timeout=60)[0], p.returncode) for p in both]
        for text, code in said:
            self.assertRegex(text, "catalog: .* accepts writes, epoch" if code == 0 else "is under way|holds no role any more|can take over|came between", said)
        self.assertIn(0, [code for _, code in said], said)
        self.assertIn(holder("catalog"), OTHERS)
        forced = [f for f in run_json("failover", "list", "--region", "paris")["failovers"] if f["why"] == "drill"]
        named = [(r["table"], r.get("home"), r["epoch"]) for f in forced for r in f["roles"]]
        self.assertEqual(len(named), len(set(named)), forced)
        Restarted.start("oregon", command)
        until(lambda: all(x == "live" for x in states().values()), 30, "all regions to be live")
        for table in ("catalog", "users", "visits", "ledger"):
            run("switch", table, "--to", "oregon", "--by", "check")


if __name__ == "__main__":
    unittest.main(verbosity=2)
