"""Collisions of local tables in three regions: each rule, both orders, and what is on record."""

import time
import unittest

from system import *


def cut_all():
    for a, b in pairs():
        cut(a, b)


def heal_all():
    for a, b in pairs():
        heal(a, b)


def records(table, region=None):
    where = ("--region", region) if region else ()
    return {c["key"]["id"]["S"]: c for c in run_json("collision", "list", table, *where)["collisions"]}


class Collisions(Case):
    @classmethod
    def setUpClass(cls):
        cls.c = all_clients()
        settle()
        for r in REGIONS:  # versions that everybody has seen, and that are no part of a collision
            for t in ("carts", "firsts", "ranked"):
                cls.c[r].put_item(TableName=t, Item={"id": s("seen-" + r), "v": s("old")})
        settle()
        cut_all()
        try:
            cls.orders = {
                "forth": ("oregon", "mumbai", "paris"),
                "back": ("paris", "mumbai", "oregon"),
                "pair": ("mumbai", "oregon"),
            }
            for t in ("carts", "firsts", "ranked"):
                for name, order in cls.orders.items():
                    for r in order:
                        cls.c[r].put_item(TableName=t, Item={"id": s(name), "by": s(r), "n": n(1)})
                        time.sleep(0.01)
                for r in REGIONS:
                    cls.c[r].put_item(TableName=t, Item={"id": s("later"), "by": s(r)})
                # Written twice in one region: the later one has seen the earlier one.
                cls.c["oregon"].put_item(TableName=t, Item={"id": s("twice"), "by": s("oregon"), "n": n(1)})
                cls.c["oregon"].put_item(TableName=t, Item={"id": s("twice"), "by": s("oregon"), "n": n(2)})
                cls.c["mumbai"].put_item(TableName=t, Item={"id": s("twice"), "by": s("mumbai"), "n": n(1)})
                # A delete beside a change.
                cls.c["oregon"].delete_item(TableName=t, Key={"id": s("seen-oregon")})
                cls.c["mumbai"].update_item(
                    TableName=t, Key={"id": s("seen-oregon")}, UpdateExpression="SET v = :v", ExpressionAttributeValues={":v": s("new")}
                )
                # Only one region writes these: nothing to record.
                cls.c["paris"].put_item(TableName=t, Item={"id": s("alone"), "by": s("paris")})
                cls.c["mumbai"].put_item(TableName=t, Item={"id": s("seen-mumbai"), "v": s("newer")})
        finally:
            heal_all()
        settle()

    def visible(self, table, key):
        got = [self.c[r].get_item(TableName=table, Key={"id": s(key)}).get("Item") for r in REGIONS]
        self.assertEqual(got[0], got[1])
        self.assertEqual(got[0], got[2])
        return got[0]

    def test_same_visible_version_everywhere(self):
        rank = ["paris", "mumbai", "oregon"]
        for name, order in self.orders.items():
            self.assertEqual(self.visible("carts", name)["by"], s(order[-1]), name)
            self.assertEqual(self.visible("firsts", name)["by"], s(order[0]), name)
            self.assertEqual(self.visible("ranked", name)["by"], s(min(order, key=rank.index)), name)
        self.assertEqual(self.visible("carts", "twice")["by"], s("mumbai"))
        self.assertEqual(self.visible("firsts", "twice"), {"id": s("twice"), "by": s("oregon"), "n": n(2)})
        self.assertEqual(self.visible("carts", "seen-oregon")["v"], s("new"))
        self.assertIsNone(self.visible("firsts", "seen-oregon"))
        self.assertEqual(self.visible("ranked", "seen-oregon")["v"], s("new"))

    def test_recorded_alike_everywhere_and_final(self):
        for t in ("carts", "firsts", "ranked"):

            def final():
                got = [records(t, r) for r in REGIONS]
                return got if all(c["final"] for g in got for c in g.values()) and got[0] == got[1] == got[2] else None

            got = until(final, 30, f"equal and final records of {t}")[0]
            self.assertEqual(set(got), {*self.orders, "later", "twice", "seen-oregon"})

    def test_what_is_on_record(self):
        rules = {"carts": "last-writer", "firsts": "first-writer", "ranked": "region-priority"}
        for t, rule in rules.items():
            got = records(t)
            for name, order in self.orders.items():
                c = got[name]
                self.assertEqual((c["table"], c["rule"], c["key"]), (t, rule, {"id": s(name)}))
                self.assertEqual({v["region"] for v in c["versions"]}, set(order))
                of = {v["dot"]: v for v in c["versions"]}
                self.assertEqual(len(of), len(order))
                self.assertEqual(of[c["first"]]["region"], order[0])
                self.assertEqual(of[c["visible"]]["item"], self.visible(t, name))
                for v in c["versions"]:
                    self.assertEqual(v["item"], {"id": s(name), "by": s(v["region"]), "n": n(1)})
                stamps = [v["stamp"] for r in order for v in c["versions"] if v["region"] == r]
                self.assertEqual(stamps, sorted(stamps))
            # All versions of the collision, also the one that oregon overwrote itself.
            versions = sorted((v["region"], v["item"]["n"]["N"]) for v in got["twice"]["versions"])
            self.assertEqual(versions, [("mumbai", "1"), ("oregon", "1"), ("oregon", "2")])
            self.assertEqual({v["region"]: v["item"] and v["item"]["v"] for v in got["seen-oregon"]["versions"]},
                             {"oregon": None, "mumbai": s("new")})

    def test_later_writes_of_all_are_no_collision(self):
        # Writing over what one has seen ends the collision and makes no new one.
        before = {t: set(records(t)) for t in ("carts", "firsts", "ranked")}
        for t in before:
            for r in REGIONS * 2:
                self.c[r].update_item(
                    TableName=t, Key={"id": s("later")}, UpdateExpression="SET #b = :r ADD turns :one",
                    ExpressionAttributeNames={"#b": "by"}, ExpressionAttributeValues={":r": s(r), ":one": n(1)},
                )
                self.c[r].put_item(TableName=t, Item={"id": s("in turn"), "by": s(r)})
                settle()
        for t in before:
            self.assertEqual(self.visible(t, "later")["turns"], n(6), "each write built on all before it")
            self.assertEqual(self.visible(t, "later")["by"], s("paris"))
            for r in REGIONS:
                self.assertEqual(set(records(t, r)), before[t])

    def test_text_output(self):
        text = run("collision", "list", "carts")
        self.assertRegex(text, r'\* paris .*"by": ?\{"S": ?"paris"\}')
        self.assertIn("last-writer", text)
        done = run("collision", "list", "nothing", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("nothing", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
