"""Each write mode from both sides: what is seen where, and what it costs."""

import time
import unittest

from system import *


class Global(Case):
    def setUp(self):
        self.c = all_clients()

    def test_write_at_the_writer_is_fast_and_arrives(self):
        for i in range(3):
            self.fast(self.c["oregon"].put_item, TableName="catalog", Item={"id": s(f"w{i}"), "v": n(i)})
        until(lambda: "Item" in self.c["mumbai"].get_item(TableName="catalog", Key={"id": s("w2")}), 5)

    def test_write_elsewhere_costs_a_round_trip_and_is_seen_at_once(self):
        for i in range(5):
            _, took = timed(self.c["mumbai"].put_item, TableName="catalog", Item={"id": s(f"f{i}"), "v": n(i)})
            self.assertGreater(took, rtt("oregon", "mumbai"))
            self.assertLess(took, 3)
            got = self.c["mumbai"].get_item(TableName="catalog", Key={"id": s(f"f{i}")})
            self.assertEqual(got["Item"]["v"], n(i))
        self.fast(self.c["mumbai"].get_item, TableName="catalog", Key={"id": s("f0")})

    def test_consistent_read_goes_to_the_writer(self):
        for i in range(3):
            self.c["oregon"].put_item(TableName="catalog", Item={"id": s("cr"), "v": n(i)})
            got, took = timed(self.c["mumbai"].get_item, TableName="catalog", Key={"id": s("cr")}, ConsistentRead=True)
            self.assertEqual(got["Item"]["v"], n(i))
            self.assertGreater(took, rtt("oregon", "mumbai"))
        self.fast(self.c["oregon"].get_item, TableName="catalog", Key={"id": s("cr")}, ConsistentRead=True)

    def test_one_winner_over_all_regions(self):
        import concurrent.futures as cf

        def claim(region):
            try:
                self.c[region].put_item(
                    TableName="catalog", Item={"id": s("claim"), "by": s(region)}, ConditionExpression="attribute_not_exists(id)"
                )
                return region
            except ClientError as e:
                self.assertEqual(e.response["Error"]["Code"], "ConditionalCheckFailedException")

        with cf.ThreadPoolExecutor(12) as pool:
            winners = [w for w in pool.map(claim, REGIONS * 4) if w]
        self.assertEqual(len(winners), 1)
        settle()
        for r in REGIONS:
            self.assertEqual(self.c[r].get_item(TableName="catalog", Key={"id": s("claim")})["Item"]["by"], s(winners[0]))

    def test_counter_from_all_regions_loses_nothing(self):
        import concurrent.futures as cf

        def add(region):
            return int(
                self.c[region].update_item(
                    TableName="catalog", Key={"id": s("counter")}, UpdateExpression="ADD hits :one",
                    ExpressionAttributeValues={":one": n(1)}, ReturnValues="UPDATED_NEW",
                )["Attributes"]["hits"]["N"]
            )

        with cf.ThreadPoolExecutor(12) as pool:
            seen = list(pool.map(add, REGIONS * 20))
        self.assertEqual(sorted(seen), list(range(1, 61)))

    def test_return_values_and_failed_conditions_come_back_from_afar(self):
        m = self.c["mumbai"]
        m.put_item(TableName="catalog", Item={"id": s("rv"), "v": n(1)})
        got = m.put_item(TableName="catalog", Item={"id": s("rv"), "v": n(2)}, ReturnValues="ALL_OLD")
        self.assertEqual(got["Attributes"]["v"], n(1))
        e = self.refused(
            "ConditionalCheckFailedException", m.delete_item, TableName="catalog", Key={"id": s("rv")},
            ConditionExpression="v = :x", ExpressionAttributeValues={":x": n(9)}, ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
        self.assertEqual(e.response["Item"], {"id": s("rv"), "v": n(2)})
        got = m.delete_item(TableName="catalog", Key={"id": s("rv")}, ReturnValues="ALL_OLD")
        self.assertEqual(got["Attributes"]["v"], n(2))
        self.assertNotIn("Item", m.get_item(TableName="catalog", Key={"id": s("rv")}))

    def test_writer_out_of_reach(self):
        m = self.c["mumbai"]
        m.put_item(TableName="catalog", Item={"id": s("cut"), "v": n(1)})
        cut("oregon", "mumbai")
        cut("oregon", "paris")
        try:
            # What was sent before the cut is noticed may have been written. It is for the SDK to repeat only where that does no harm.
            for code, call in (
                ("InternalServerError", lambda: m.put_item(TableName="catalog", Item={"id": s("cut"), "v": n(1)})),
                ("(OutcomeUnknownException|InternalServerError)", lambda: m.update_item(
                    TableName="catalog", Key={"id": s("count")}, UpdateExpression="ADD v :one", ExpressionAttributeValues={":one": n(1)})),
            ):
                start = time.monotonic()
                with self.assertRaisesRegex(ClientError, code + ".*oregon"):
                    call()
                self.assertLess(time.monotonic() - start, 5)
            for call in (
                lambda: m.put_item(TableName="catalog", Item={"id": s("cut"), "v": n(2)}),
                lambda: m.update_item(TableName="catalog", Key={"id": s("cut")}, UpdateExpression="REMOVE v"),
                lambda: m.get_item(TableName="catalog", Key={"id": s("cut")}, ConsistentRead=True),
            ):
                start = time.monotonic()
                self.refused("InternalServerError", call, status=500, says="oregon")
                self.assertLess(time.monotonic() - start, 5)
            until(lambda: states()["oregon"] == "detached", 10, "oregon to be seen alone")
            self.assertEqual(m.get_item(TableName="catalog", Key={"id": s("cut")})["Item"]["v"], n(1))
            m.put_item(TableName="carts", Item={"id": s("while cut"), "v": n(1)})
        finally:
            heal("oregon", "mumbai")
            heal("oregon", "paris")
        settle()
        got = m.put_item(TableName="catalog", Item={"id": s("cut"), "v": n(3)}, ReturnValues="ALL_OLD")
        self.assertEqual(got["Attributes"]["v"], n(1))


class Local(Case):
    def test_fast_everywhere_and_seen_elsewhere(self):
        c = all_clients()
        for r in REGIONS:
            c[r].put_item(TableName="carts", Item={"id": s("warm-" + r)})
            self.fast(c[r].put_item, TableName="carts", Item={"id": s("fast-" + r), "by": s(r)})
            got = self.fast(c[r].get_item, TableName="carts", Key={"id": s("fast-" + r)}, ConsistentRead=True)
            self.assertEqual(got["Item"]["by"], s(r))
        for r in REGIONS:
            for w in REGIONS:
                until(lambda: "Item" in c[r].get_item(TableName="carts", Key={"id": s("fast-" + w)}), 5)


class Partitioned(Case):
    def setUp(self):
        self.c = all_clients()

    def home(self, table, key, *more):
        return run("home", table, key, *more).strip()

    def test_born_where_it_is_made(self):
        for r in REGIONS:
            key = f"born-{r}"
            self.c[r].put_item(TableName="users", Item={"id": s(key), "v": n(0)})
            self.fast(self.c[r].put_item, TableName="users", Item={"id": s(key), "v": n(1)})
            for other in REGIONS:
                until(lambda: self.c[other].get_item(TableName="users", Key={"id": s(key)}).get("Item", {}).get("v") == n(1), 5)
                self.assertEqual(self.home("users", key, "--region", other), r)
                if other != r:
                    _, took = timed(self.c[other].put_item, TableName="users", Item={"id": s(key), "v": n(1)})
                    self.assertGreater(took, rtt(r, other))
                    got, took = timed(self.c[other].get_item, TableName="users", Key={"id": s(key)}, ConsistentRead=True)
                    self.assertEqual(got["Item"]["v"], n(1))
                    self.assertGreater(took, rtt(r, other))

    def test_born_once_though_all_try(self):
        import concurrent.futures as cf

        def make(region, key):
            try:
                self.c[region].put_item(
                    TableName="users", Item={"id": s(key), "by": s(region)}, ConditionExpression="attribute_not_exists(id)"
                )
                return region
            except ClientError as e:
                self.assertEqual(e.response["Error"]["Code"], "ConditionalCheckFailedException")

        keys = [f"twins-{i}" for i in range(12)]
        with cf.ThreadPoolExecutor(36) as pool:
            made = {(k, r): pool.submit(make, r, k) for k in keys for r in REGIONS}
        settle()
        for k in keys:
            winners = [r for r in REGIONS if made[k, r].result()]
            self.assertEqual(len(winners), 1, k)
            for r in REGIONS:
                self.assertEqual(self.c[r].get_item(TableName="users", Key={"id": s(k)})["Item"]["by"], s(winners[0]))

    def test_moves_when_told(self):
        self.c["oregon"].put_item(TableName="users", Item={"id": s("mover"), "v": n(0)})
        settle()
        self.assertEqual(self.home("users", "mover"), "oregon")
        run("home", "users", "mover", "--move", "mumbai")

        def fast():
            _, took = timed(self.c["mumbai"].update_item, TableName="users", Key={"id": s("mover")},
                            UpdateExpression="ADD v :one", ExpressionAttributeValues={":one": n(1)})
            self.writes += 1
            return took < LOCAL

        self.writes = 0
        until(fast, 10, "mumbai to be the home")
        self.assertEqual(self.home("users", "mover", "--region", "mumbai"), "mumbai")
        got, took = timed(self.c["oregon"].get_item, TableName="users", Key={"id": s("mover")}, ConsistentRead=True)
        self.assertGreater(took, rtt("oregon", "mumbai"))
        self.assertEqual(got["Item"]["v"], n(self.writes))

    def test_moves_to_its_busiest_writer(self):
        self.c["oregon"].put_item(TableName="users", Item={"id": s("commuter"), "v": n(0)})
        settle()
        last = []

        def moved():
            _, took = timed(self.c["mumbai"].update_item, TableName="users", Key={"id": s("commuter")},
                            UpdateExpression="ADD v :one", ExpressionAttributeValues={":one": n(1)})
            last.append(took)
            return took < LOCAL

        until(moved, 30, "the item to follow its writer")
        got = self.c["oregon"].get_item(TableName="users", Key={"id": s("commuter")}, ConsistentRead=True)
        self.assertEqual(got["Item"]["v"], n(len(last)))

    def test_home_by_attribute(self):
        self.c["oregon"].put_item(TableName="visits", Item={"id": s("a"), "region": s("mumbai"), "v": n(1)})
        settle()
        self.assertEqual(self.home("visits", "a"), "mumbai")
        self.fast(self.c["mumbai"].put_item, TableName="visits", Item={"id": s("a"), "region": s("mumbai"), "v": n(2)})
        self.refused("ValidationException", self.c["oregon"].put_item, TableName="visits", Item={"id": s("b")}, says="region")
        self.refused("ValidationException", self.c["oregon"].put_item, TableName="visits",
                     Item={"id": s("b"), "region": s("atlantis")}, says="atlantis")

    def test_home_by_prefix(self):
        _, took = timed(self.c["mumbai"].put_item, TableName="ledger", Item={"id": s("mumbai#0"), "v": n(1)})
        # The key says whose it is, so nobody has to be asked, not even the first time.
        took = min([took] + [timed(self.c["mumbai"].put_item, TableName="ledger", Item={"id": s(f"mumbai#new-{i}")})[1] for i in range(5)])
        self.assertLess(took, LOCAL)
        _, took = timed(self.c["oregon"].put_item, TableName="ledger", Item={"id": s("mumbai#2"), "v": n(1)})
        self.assertGreater(took, rtt("oregon", "mumbai"))
        self.assertEqual(self.home("ledger", "mumbai#2"), "mumbai")

    def test_deleted_and_born_elsewhere(self):
        self.c["oregon"].put_item(TableName="users", Item={"id": s("phoenix"), "v": n(1)})
        self.c["oregon"].delete_item(TableName="users", Key={"id": s("phoenix")})
        got = self.c["paris"].get_item(TableName="users", Key={"id": s("phoenix")}, ConsistentRead=True)
        self.assertNotIn("Item", got)
        self.c["paris"].put_item(TableName="users", Item={"id": s("phoenix"), "v": n(2)})
        settle()
        for r in REGIONS:
            self.assertEqual(self.c[r].get_item(TableName="users", Key={"id": s("phoenix")})["Item"]["v"], n(2))
        self.assertEqual(self.home("users", "phoenix"), "paris")

    def test_unknown_item_has_no_home(self):
        done = run("home", "users", "nobody", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertNotIn("panic", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
