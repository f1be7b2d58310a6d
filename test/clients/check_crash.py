"""SIGKILL of a region while 16 threads write to it, in each write mode: nothing acknowledged is missing anywhere."""

import time
import unittest

from system import *

THREADS = 16


class Crash(Case):
    @classmethod
    def tearDownClass(cls):
        Restarted.stop_all()

    def setUp(self):
        self.c = all_clients(timeout=8)

    def through(self, victim, table, writers, make=None):
        """Loads table through clients of the regions in writers, kills victim meanwhile, and compares afterwards."""

        def write(number, i):
            key = f"{table}-{self.id()[-12:]}-{number}-{i}"
            item = {"id": s(key), "n": n(i), "pad": s("x" * 200), **(make(number) if make else {})}
            self.c[writers[number % len(writers)]].put_item(TableName=table, Item=item)
            return key, item

        load = [Load(write, i) for i in range(THREADS)]
        for t in load:
            t.start()
        time.sleep(1.2)
        command = Restarted.kill(victim)
        time.sleep(0.5)
        Restarted.start(victim, command)
        time.sleep(1)
        for t in load:
            t.ending.set()
        for t in load:
            t.join(30)
        settle()
        acknowledged = {k: v for t in load for k, v in t.acknowledged.items()}
        self.assertGreater(len(acknowledged), 100)
        self.assertGreater(sum(t.refused for t in load), 0, "the kill was noticed")
        for r in REGIONS:
            lost = 0
            keys = sorted(acknowledged)
            for at in range(0, len(keys), 100):
                ask = {table: {"Keys": [{"id": s(k)} for k in keys[at : at + 100]]}}
                got = {}
                while ask:
                    answer = self.c[r].batch_get_item(RequestItems=ask)
                    got.update((i["id"]["S"], i) for i in answer["Responses"].get(table, []))
                    ask = answer["UnprocessedKeys"]
                lost += sum(got.get(k) != acknowledged[k] for k in keys[at : at + 100])
            self.assertEqual(lost, 0, f"of {len(acknowledged)} acknowledged writes {lost} are not in {r}")
        return len(acknowledged)

    def test_local(self):
        self.through("oregon", "carts", ["oregon"])

    def test_global_writer(self):
        self.through("oregon", "catalog", ["oregon", "mumbai"])

    def test_global_forwarding(self):
        self.through("mumbai", "catalog", ["mumbai", "paris"])

    def test_partitioned(self):
        self.through("mumbai", "users", ["mumbai", "oregon"])

    def test_counters_and_keys_survive(self):
        """Incarnation, access keys, tokens and the catalog are the same after a restart."""
        keys = run("key", "list", "paris")
        Restarted.start("paris", Restarted.kill("paris"))
        self.assertEqual(run("key", "list", "paris"), keys)
        self.assertIn("carts", self.c["paris"].list_tables()["TableNames"])
        origins = run_json("status")["regions"][0]["frontier"]
        self.assertNotIn("paris#2", origins)


if __name__ == "__main__":
    unittest.main(verbosity=2)
