"""The DynamoDB API as boto3 sees it: expressions, conditions, results, tables and their tags, and what is refused."""

import subprocess
import time
import unittest
from decimal import Decimal

from boto3.dynamodb.types import TypeDeserializer

from system import *

ALL = {":one": n(1)}


class Items(Case):
    @classmethod
    def setUpClass(cls):
        cls.c = client("oregon")
        cls.T = "carts"

    def put(self, key, **attributes):
        self.c.put_item(TableName=self.T, Item={"id": s(key), **attributes})

    def get(self, key, **options):
        return self.c.get_item(TableName=self.T, Key={"id": s(key)}, ConsistentRead=True, **options).get("Item")

    def update(self, key, expression, values=None, names=None, **options):
        if values:
            options["ExpressionAttributeValues"] = values
        if names:
            options["ExpressionAttributeNames"] = names
        return self.c.update_item(TableName=self.T, Key={"id": s(key)}, UpdateExpression=expression, **options)

    def test_every_type_comes_back(self):
        item = {
            "s": s(""), "u": s("aé漢🙂\u0000\u001f\"\\/"), "n": n("-1.5"), "b": {"B": bytes(range(256))}, "t": {"BOOL": True},
            "f": {"BOOL": False}, "z": {"NULL": True}, "l": {"L": [n(1), s("x"), {"L": []}]}, "m": {"M": {"a": {"M": {}}, "": n(0)}},
            "ss": {"SS": ["b", "a"]}, "ns": {"NS": ["3", "1.0"]}, "bs": {"BS": [b"x", b""]},
        }
        item["m"]["M"].pop("")
        self.put("types", **item)
        got = self.get("types")
        take = TypeDeserializer()
        self.assertEqual({k: take.deserialize(v) for k, v in got.items()},
                         {k: take.deserialize(v) for k, v in {"id": s("types"), **item}.items()})

    def test_numbers(self):
        for text, want in {
            "1e3": "1000", "-0": "0", "00012.500": "12.5", "9.9999999999999999999999999999999999999E+125": None,
            "1E-130": None, "-9.9999999999999999999999999999999999999E+125": None, "+7": "7", ".5": "0.5", "5.": "5",
            "12345678901234567890123456789012345678": None, "1" + "0" * 50: None,
        }.items():
            self.put("number", n=n(text))
            got = self.get("number")["n"]["N"]
            self.assertEqual(Decimal(got), Decimal(text), text)
            if want:
                self.assertEqual(got, want)
        for text in ("", "x", "1x", "0x10", "NaN", "Infinity", "1e", "1 ", " 1", "--1", "1e126", "1e-131", "1" * 39, "1_000", "１"):
            self.refused("ValidationException", self.put, "number", n=n(text))

    def test_conditions(self):
        self.put("cond", n=n(5), l={"L": [n(1), n(2)]}, m={"M": {"x": s("abc")}}, ss={"SS": ["a", "b"]}, **{"size": n(1)})
        good = [
            "n = :5", "n <> :6", "n < :6", "n <= :5", "n > :4", "n >= :5", "n BETWEEN :4 AND :6", "n IN (:4, :5)", "NOT n = :4",
            "n = :4 OR n = :5", "n = :5 AND (n = :4 OR NOT n = :6)", "attribute_exists(m.x)", "attribute_not_exists(m.y)",
            "attribute_type(n, :tn)", "begins_with(m.x, :ab)", "contains(m.x, :bc)", "contains(ss, :a)", "contains(l, :5) OR size(l) = :2",
            "size(m.x) > :2", "l[1] = :2", "attribute_not_exists(l[7])", "#size < :4", "(n = :5) AND (n > :4)", "n=:5 and not n=:4",
        ]
        values = {":5": n(5), ":6": n(6), ":4": n(4), ":2": n(2), ":tn": s("N"), ":ab": s("ab"), ":bc": s("bc"), ":a": s("a")}
        bad = ["n = :4", "n <> :5", "attribute_exists(nope)", "nope = :5", "nope <> nope2", "m.x = :5", "contains(ss, :bc)",
               "begins_with(n, :ab)", "size(l) = :5", "NOT (n = :5)"]
        for text, ok in [(t, True) for t in good] + [(t, False) for t in bad]:
            args = dict(TableName=self.T, Key={"id": s("cond")}, UpdateExpression="SET touched = :zz", ConditionExpression=text)
            used = {k: v for k, v in values.items() if k in text.replace("(", " ").replace(")", " ").replace(",", " ").replace("=", " = ").split()}
            args["ExpressionAttributeValues"] = {":zz": n(1), **used}
            if "#size" in text:
                args["ExpressionAttributeNames"] = {"#size": "size"}
            with self.subTest(text):
                if ok:
                    self.c.update_item(**args)
                elif text.startswith("begins_with(n") or text == "nope <> nope2":
                    try:
                        self.c.update_item(**args)
                    except ClientError as e:
                        self.assertIn(e.response["Error"]["Code"], ("ConditionalCheckFailedException", "ValidationException"))
                else:
                    self.refused("ConditionalCheckFailedException", self.c.update_item, says="The conditional request failed", **args)

    def test_parameters_of_before(self):
        """Expected, AttributeUpdates and their kin, which old programs still send."""
        at = dict(TableName=self.T, Key={"id": s("old-way")})
        self.c.delete_item(**at)
        self.c.update_item(**at, AttributeUpdates={"n": {"Action": "DELETE"}})
        self.assertIsNone(self.get("old-way"), "what only takes away makes no item")
        self.c.put_item(TableName=self.T, Item={"id": s("old-way"), "n": n(1)}, Expected={"id": {"Exists": False}})
        self.refused("ConditionalCheckFailedException", self.c.put_item, TableName=self.T, Item={"id": s("old-way")}, Expected={"id": {"Exists": False}})
        got = self.c.update_item(**at, ReturnValues="ALL_NEW", ConditionalOperator="OR", Expected={
            "n": {"ComparisonOperator": "GT", "AttributeValueList": [n(5)]}, "m": {"ComparisonOperator": "NULL"},
        }, AttributeUpdates={
            "n": {"Action": "ADD", "Value": n(2)}, "t": {"Value": s("x")}, "tags": {"Action": "ADD", "Value": {"SS": ["a", "b"]}},
        })
        self.assertEqual(got["Attributes"], {"id": s("old-way"), "n": n(3), "t": s("x"), "tags": {"SS": ["a", "b"]}})
        self.refused("ValidationException", self.c.update_item, **at, says="Type mismatch for attribute to update",
                     AttributeUpdates={"t": {"Action": "ADD", "Value": n(1)}})
        self.refused("ValidationException", self.c.update_item, **at, UpdateExpression="REMOVE t", AttributeUpdates={"t": {"Action": "DELETE"}},
                     says="Can not use both expression and non-expression parameters in the same request: "
                          r"Non-expression parameters: \{AttributeUpdates\} Expression parameters: \{UpdateExpression\}")
        got = self.c.query(TableName=self.T, KeyConditions={"id": {"ComparisonOperator": "EQ", "AttributeValueList": [s("old-way")]}},
                           QueryFilter={"tags": {"ComparisonOperator": "CONTAINS", "AttributeValueList": [s("b")]}}, AttributesToGet=["n"])
        self.assertEqual(got["Items"], [{"n": n(3)}])
        found = self.c.scan(TableName=self.T, ScanFilter={"t": {"ComparisonOperator": "BEGINS_WITH", "AttributeValueList": [s("x")]}})
        self.assertIn(s("old-way"), [i["id"] for i in found["Items"]])
        self.c.delete_item(**at, Expected={"n": {"Value": n(3)}})

    def test_failed_condition_gives_the_item(self):
        self.put("old", v=n(1))
        e = self.refused("ConditionalCheckFailedException", self.c.put_item, TableName=self.T, Item={"id": s("old")},
                         ConditionExpression="attribute_not_exists(id)", ReturnValuesOnConditionCheckFailure="ALL_OLD")
        self.assertEqual(e.response["Item"], {"id": s("old"), "v": n(1)})
        e = self.refused("ConditionalCheckFailedException", self.c.put_item, TableName=self.T, Item={"id": s("old")},
                         ConditionExpression="attribute_not_exists(id)")
        self.assertNotIn("Item", e.response)

    def test_updates(self):
        for start, expression, values, names, want in [
            ({}, "SET a = :1", {":1": n(1)}, None, {"a": n(1)}),
            ({"a": n(1)}, "SET a = a + :1, b = a - :1", {":1": n(1)}, None, {"a": n(2), "b": n(0)}),
            ({"a": n(1)}, "SET c = if_not_exists(c, :1) + :1", {":1": n(1)}, None, {"a": n(1), "c": n(2)}),
            ({"l": {"L": [n(1)]}}, "SET l = list_append(l, :l)", {":l": {"L": [n(2)]}}, None, {"l": {"L": [n(1), n(2)]}}),
            ({"l": {"L": [n(1)]}}, "SET l = list_append(:l, l)", {":l": {"L": [n(2)]}}, None, {"l": {"L": [n(2), n(1)]}}),
            ({"l": {"L": [n(1)]}}, "SET l[9] = :1, l[8] = :2", {":1": n(9), ":2": n(8)}, None, {"l": {"L": [n(1), n(8), n(9)]}}),
            ({"l": {"L": [n(0), n(1), n(2)]}}, "REMOVE l[0], l[2]", None, None, {"l": {"L": [n(1)]}}),
            ({"m": {"M": {"x": n(1), "y": n(2)}}}, "SET m.#z = m.x REMOVE m.y", None, {"#z": "a.b"}, {"m": {"M": {"x": n(1), "a.b": n(1)}}}),
            ({"a": n(1), "b": n(2)}, "SET a = b, b = a", None, None, {"a": n(2), "b": n(1)}),
            ({"a": n(1)}, "ADD a :1, z :1", {":1": n("0.5")}, None, {"a": n("1.5"), "z": n("0.5")}),
            ({"s": {"SS": ["a"]}}, "ADD s :s", {":s": {"SS": ["a", "b"]}}, None, {"s": {"SS": ["a", "b"]}}),
            ({"s": {"SS": ["a", "b"]}}, "DELETE s :s", {":s": {"SS": ["a", "z"]}}, None, {"s": {"SS": ["b"]}}),
            ({"s": {"SS": ["a"]}}, "DELETE s :s", {":s": {"SS": ["a"]}}, None, {}),
            ({"a": n("1e37")}, "SET a = a + :1", {":1": n(1)}, None, {"a": n(10**37 + 1)}),
        ]:
            with self.subTest(expression):
                self.put("up", **start)
                self.update("up", expression, values, names)
                got = self.get("up")
                for v in got.values():
                    for k in ("SS", "NS"):
                        if k in v:
                            v[k].sort()
                self.assertEqual(got, {"id": s("up"), **want})

    def test_refused_updates(self):
        self.put("up2", a=n(1), t=s("text"), m={"M": {}})
        for expression, values, says in [
            ("SET id = :1", ALL, "Cannot update attribute id. This attribute is part of the key"),
            ("SET a = :1, a = :1", ALL, "Two document paths overlap"),
            ("SET a.b = :1", ALL, "document path provided in the update expression is invalid"),
            ("SET nope.b = :1", ALL, "document path provided in the update expression is invalid"),
            ("SET t = t + :1", ALL, "Incorrect operand type|incorrect operand|incorrect data type"),
            ("SET q = nope", None, "The provided expression refers to an attribute that does not exist in the item"),
            ("SET a = :1 SET b = :1", ALL, 'The "SET" section can only be used once'),
            ("SET size = :1", ALL, "reserved keyword.*size"),
            ("SET a = :2", ALL, "An expression attribute value used in expression is not defined"),
            ("SET #x = :1", ALL, "An expression attribute name used in the document path is not defined"),
            ("SET b = :1", {":1": n(1), ":one": n(1)}, "unused in expressions: keys: {:one}"),
            ("ADD t :1", ALL, "incorrect|Incorrect|mismatch"),
            ("SET a = ", ALL, "Syntax error"),
            ("FOO a = :1", ALL, "Syntax error"),
            ("", ALL, "can not be empty|cannot be empty|empty"),
        ]:
            with self.subTest(expression):
                if values is ALL and ":1" in expression:
                    expression = expression.replace(":1", ":one")
                self.refused("ValidationException", self.update, "up2", expression, values, says=says)

    def test_return_values(self):
        self.put("rv", a=n(1), b=n(2))
        for want, expect in [
            ("NONE", None), ("ALL_OLD", {"id": s("rv"), "a": n(1), "b": n(2)}), ("UPDATED_OLD", {"a": n(1)}),
            ("ALL_NEW", {"id": s("rv"), "a": n(9), "b": n(2)}), ("UPDATED_NEW", {"a": n(9)}),
        ]:
            self.put("rv", a=n(1), b=n(2))
            got = self.update("rv", "SET a = :v", {":v": n(9)}, ReturnValues=want)
            self.assertEqual(got.get("Attributes"), expect, want)
        self.c.delete_item(TableName=self.T, Key={"id": s("fresh")})
        self.assertNotIn("Attributes", self.c.put_item(TableName=self.T, Item={"id": s("fresh")}, ReturnValues="ALL_OLD"))
        self.refused("ValidationException", self.c.put_item, TableName=self.T, Item={"id": s("rv")}, ReturnValues="ALL_NEW")
        got = self.c.delete_item(TableName=self.T, Key={"id": s("rv")}, ReturnValues="ALL_OLD")
        self.assertEqual(got["Attributes"]["a"], n(9))

    def test_projection(self):
        self.put("proj", a=n(1), m={"M": {"x": n(1), "y": {"L": [n(1), n(2), n(3)]}}}, **{"name": s("n")})
        got = self.get("proj", ProjectionExpression="m.y[1], #n, nope", ExpressionAttributeNames={"#n": "name"})
        self.assertEqual(got, {"m": {"M": {"y": {"L": [n(2)]}}}, "name": s("n")})

    def test_batches(self):
        ops = [{"PutRequest": {"Item": {"id": s(f"batch-{i}"), "n": n(i)}}} for i in range(25)]
        self.assertEqual(self.c.batch_write_item(RequestItems={self.T: ops})["UnprocessedItems"], {})
        self.refused("ValidationException", self.c.batch_write_item, RequestItems={self.T: ops + ops[:1]})
        self.refused("ValidationException", self.c.batch_write_item, RequestItems={self.T: [ops[0], ops[0]]}, says="duplicates")
        self.refused("ValidationException", self.c.batch_get_item, RequestItems={self.T: {"Keys": [{"id": s("a")}, {"id": s("a")}]}}, says="duplicates")
        self.refused("ResourceNotFoundException", self.c.batch_write_item, RequestItems={"nothing": ops[:1]})
        gone = [{"DeleteRequest": {"Key": {"id": s(f"batch-{i}")}}} for i in range(25)]
        self.c.batch_write_item(RequestItems={self.T: gone})
        got = self.c.batch_get_item(RequestItems={self.T: {"Keys": [{"id": s(f"batch-{i}")} for i in range(25)], "ConsistentRead": True}})
        self.assertEqual(got["Responses"][self.T], [])

    def test_what_is_refused(self):
        for code, says, call, args in [
            ("ResourceNotFoundException", None, self.c.get_item, dict(TableName="nothing", Key={"id": s("a")})),
            ("ValidationException", "The provided key element does not match the schema", self.c.get_item, dict(TableName=self.T, Key={"x": s("a")})),
            ("ValidationException", "The provided key element does not match the schema|Type mismatch", self.c.get_item, dict(TableName=self.T, Key={"id": n(1)})),
            ("ValidationException", "key", self.c.put_item, dict(TableName=self.T, Item={"x": s("a")})),
            ("ValidationException", "empty string value", self.c.put_item, dict(TableName=self.T, Item={"id": s("")})),
            ("ValidationException", "empty", self.c.get_item, dict(TableName=self.T, Key={"id": s("")})),
            ("ValidationException", "[Ss]ize of hashkey has exceeded|2048", self.c.put_item, dict(TableName=self.T, Item={"id": s("k" * 2049)})),
            ("ValidationException", "Item size has exceeded the maximum allowed size", self.c.put_item, dict(TableName=self.T, Item={"id": s("a"), "x": s("x" * 409600)})),
            ("ValidationException", "set", self.c.put_item, dict(TableName=self.T, Item={"id": s("a"), "x": {"SS": []}})),
            ("ValidationException", "duplicates", self.c.put_item, dict(TableName=self.T, Item={"id": s("a"), "x": {"SS": ["a", "a"]}})),
            ("ValidationException", "duplicates", self.c.put_item, dict(TableName=self.T, Item={"id": s("a"), "x": {"NS": ["1", "1.0"]}})),
            ("ValidationException", "Query condition missed key schema element", self.c.query, dict(TableName=self.T, KeyConditionExpression="x = :one", ExpressionAttributeValues=ALL)),
            ("ValidationException", "TotalSegments|Segment", self.c.scan, dict(TableName=self.T, Segment=4, TotalSegments=4)),
            ("ValidationException", "[Ee]xclusive|starting", self.c.scan, dict(TableName=self.T, ExclusiveStartKey={"x": s("a")})),
            ("ValidationException", "Cannot specify the ProjectionExpression", self.c.query, dict(
                TableName=self.T, KeyConditionExpression="id = :one", ExpressionAttributeValues=ALL, Select="COUNT", ProjectionExpression="id")),
        ]:
            with self.subTest(str(args)[:100]):
                self.refused(code, call, says=says, **args)
        self.put("large", x=s("x" * 400_000))
        self.assertEqual(len(self.get("large")["x"]["S"]), 400_000)

    def test_pages_by_size(self):
        keys = [f"heavy-{i}" for i in range(6)]
        for k in keys:
            self.c.put_item(TableName="pair", Item={"id": s(k), "x": s("x" * 300_000)})
        got, start, pages = [], None, 0
        while True:
            page = self.c.scan(TableName="pair", **({"ExclusiveStartKey": start} if start else {}))
            pages += 1
            got += [i["id"]["S"] for i in page["Items"]]
            self.assertLessEqual(len(page["Items"]), 4, "a page ends after 1 MB")
            start = page.get("LastEvaluatedKey")
            if not start:
                break
        self.assertGreater(pages, 1)
        self.assertEqual(sorted(k for k in got if k.startswith("heavy")), keys)


class Tables(Case):
    @classmethod
    def setUpClass(cls):
        cls.c = all_clients()

    def create(self, name, region="mumbai", **tags):
        return self.c[region].create_table(
            TableName=name, KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}], BillingMode="PAY_PER_REQUEST",
            Tags=[{"Key": "antipode:" + k, "Value": v} for k, v in tags.items()],
        )["TableDescription"]

    def described(self, name):
        return {t["name"]: t for t in run_json("status")["tables"]}[name]

    def ready(self, name, regions=REGIONS):
        for r in regions:
            until(lambda: name in self.c[r].list_tables()["TableNames"], 10, f"{name} in {r}")
            self.c[r].get_waiter("table_exists").wait(TableName=name)

    def test_life_of_a_table(self):
        made = self.create("life")
        self.assertIn(made["TableStatus"], ("CREATING", "ACTIVE"))
        self.ready("life")
        d = self.c["paris"].describe_table(TableName="life")["Table"]
        self.assertEqual(d["TableStatus"], "ACTIVE")
        self.assertEqual({r["RegionName"] for r in d["Replicas"]} | {"paris"}, set(REGIONS))
        self.assertIn("mumbai", d["TableArn"].split(":") + ["mumbai"])
        self.assertEqual(self.described("life")["writer"], "mumbai", "the region asked is the writer")
        self.fast(self.c["mumbai"].put_item, TableName="life", Item={"id": s("a")})
        self.refused("ResourceInUseException", self.create, "life", region="oregon")
        for r in REGIONS:
            self.assertIn("life", self.c[r].list_tables()["TableNames"])
        self.c["oregon"].delete_table(TableName="life")
        for r in REGIONS:
            until(lambda: "life" not in self.c[r].list_tables()["TableNames"], 10)
            self.refused("ResourceNotFoundException", self.c[r].get_item, TableName="life", Key={"id": s("a")})
        self.create("life", region="paris", writes="local", rule="last-writer")
        self.ready("life")
        for r in REGIONS:
            self.assertEqual(self.c[r].scan(TableName="life")["Count"], 0, "the new table has nothing of the old one")
        self.c["oregon"].delete_table(TableName="life")

    def test_update_table(self):
        c = self.c["oregon"]
        self.create("changing", region="oregon")
        self.ready("changing")
        look = lambda region="oregon": self.c[region].describe_table(TableName="changing")["Table"]
        c.update_table(TableName="changing", BillingMode="PROVISIONED", ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 6})
        until(lambda: look("mumbai")["ProvisionedThroughput"]["WriteCapacityUnits"] == 6, 10, "mumbai to know the capacity")
        self.refused("ValidationException", c.update_table, TableName="changing", says="The provisioned throughput for the table will not change",
                     ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 6})
        c.update_table(TableName="changing", BillingMode="PAY_PER_REQUEST")
        self.assertEqual(look()["BillingModeSummary"]["BillingMode"], "PAY_PER_REQUEST")
        c.update_table(TableName="changing", TableClass="STANDARD_INFREQUENT_ACCESS")
        self.assertEqual(look()["TableClassSummary"]["TableClass"], "STANDARD_INFREQUENT_ACCESS")
        c.update_table(TableName="changing", DeletionProtectionEnabled=True)
        self.assertTrue(look()["DeletionProtectionEnabled"])
        self.refused("ValidationException", c.delete_table, TableName="changing", says="currently protected against deletion")
        self.refused("ValidationException", self.c["mumbai"].delete_table, TableName="changing", says="currently protected against deletion")
        c.update_table(TableName="changing", DeletionProtectionEnabled=False)
        c.delete_table(TableName="changing")

    def test_time_to_live(self):
        for name, tags in (("fading", {}), ("fading-local", dict(writes="local", rule="last-writer")), ("fading-parted", dict(writes="partitioned"))):
            self.create(name, region="oregon", **tags)
            self.ready(name)
            got = self.c["mumbai"].update_time_to_live(TableName=name, TimeToLiveSpecification={"AttributeName": "until", "Enabled": True})
            self.assertEqual(got["TimeToLiveSpecification"], {"AttributeName": "until", "Enabled": True})
            now = int(time.time())
            for i in range(20):
                c = self.c[REGIONS[i % len(REGIONS)]]
                c.put_item(TableName=name, Item={"id": s(f"past-{i}"), "until": n(now - i)})
                c.put_item(TableName=name, Item={"id": s(f"kept-{i}"), "until": [n(now + 3600), s(str(now - 5)), n(now - 6 * 365 * 86400), {"L": [n(now)]}][i % 4]})
        for name in ("fading", "fading-local", "fading-parted"):
            for r in REGIONS:
                left = until(lambda: [i for i in [self.c[r].scan(TableName=name)["Items"]] if len(i) <= 20], 60, f"expired items of {name} to vanish from {r}")[0]
                self.assertEqual({i["id"]["S"] for i in left}, {f"kept-{i}" for i in range(20)})
        c = self.c["oregon"]
        until(lambda: c.describe_time_to_live(TableName="fading")["TimeToLiveDescription"] == {"TimeToLiveStatus": "ENABLED", "AttributeName": "until"}, 10)
        for enabled, attribute, says in ((True, "until", "already enabled"), (True, "other", "different AttributeName"), (False, "other", "different AttributeName")):
            self.refused("ValidationException", c.update_time_to_live, TableName="fading", says=says,
                         TimeToLiveSpecification={"AttributeName": attribute, "Enabled": enabled})
        c.update_time_to_live(TableName="fading", TimeToLiveSpecification={"AttributeName": "until", "Enabled": False})
        self.refused("ValidationException", c.update_time_to_live, TableName="fading", says="already disabled",
                     TimeToLiveSpecification={"AttributeName": "until", "Enabled": False})
        self.assertEqual(run_json("collision", "list", "fading-local")["collisions"], [], "one region deletes an item, not each of them")
        for name in ("fading", "fading-local", "fading-parted"):
            c.delete_table(TableName=name)

    def test_what_tools_ask(self):
        c = self.c["oregon"]
        self.create("measured", region="oregon")
        self.ready("measured")
        c.put_item(TableName="measured", Item={"id": s("a"), "blob": {"B": bytes(1000)}, "n": n("1.5"), "t": {"BOOL": True}})
        d = c.describe_table(TableName="measured")["Table"]
        self.assertEqual((d["ItemCount"], d["TableSizeBytes"]), (1, 2 + 1 + 4 + 1000 + 1 + 3 + 1 + 1))
        c.delete_table(TableName="measured")
        self.assertEqual(c.describe_time_to_live(TableName="carts")["TimeToLiveDescription"]["TimeToLiveStatus"], "DISABLED")
        self.assertEqual(c.describe_continuous_backups(TableName="carts")["ContinuousBackupsDescription"]["ContinuousBackupsStatus"], "DISABLED")
        self.assertGreater(c.describe_limits()["TableMaxReadCapacityUnits"], 0)
        self.assertEqual(c.list_global_tables()["GlobalTables"], [])
        self.refused("GlobalTableNotFoundException", c.describe_global_table, GlobalTableName="carts")
        self.refused("ValidationException", c.create_global_table, GlobalTableName="carts", ReplicationGroup=[{"RegionName": "mumbai"}], says="2017.11.29")
        self.refused("UnknownOperationException", c.list_backups, says="ListBackups is not supported")

    def test_tags_choose_the_mode(self):
        for name, tags, want in [
            ("by-global", dict(writes="global", writer="paris"), dict(writes="global", writer="paris")),
            ("by-alias", dict(writes="global", writer="eu-west-3"), dict(writes="global", writer="paris")),
            ("by-part", dict(writes="partitioned"), dict(writes="partitioned")),
            ("by-attr", dict(writes="partitioned", home="attribute:region"), dict(writes="partitioned")),
            ("by-local", dict(writes="local", rule="first-writer"), dict(writes="local", rule="first-writer")),
            ("by-rank", dict(writes="local", rule="region-priority"), dict(writes="local", rule="region-priority")),
        ]:
            self.create(name, **tags)
            self.ready(name)
            got = self.described(name)
            self.assertEqual({k: got[k] for k in want}, want)
            arn = self.c["oregon"].describe_table(TableName=name)["Table"]["TableArn"]
            got = {t["Key"]: t["Value"] for t in self.c["oregon"].list_tags_of_resource(ResourceArn=arn)["Tags"]}
            self.assertEqual(got, {"antipode:" + k: v for k, v in tags.items()})
            self.c["oregon"].delete_table(TableName=name)

    def test_refused_tags(self):
        for tags, says in [
            (dict(writes="local"), "last-writer.*first-writer.*region-priority"),
            (dict(writes="everywhere"), "global.*partitioned.*local"),
            (dict(writes="local", rule="best"), "last-writer"),
            (dict(writes="global", writer="atlantis"), "atlantis.*oregon"),
            (dict(writes="partitioned", home="nowhere"), "creator"),
            (dict(wirtes="local"), "wirtes"),
            (dict(writes="global", rule="last-writer"), "rule"),
        ]:
            with self.subTest(str(tags)):
                self.refused("ValidationException", self.create, "refused", says=says, **tags)
        self.assertNotIn("refused", self.c["mumbai"].list_tables()["TableNames"])

    def test_replicas_of_some(self):
        """What a region is no replica of, it does not answer for and does not store."""
        secret = "zebra-crossing-4711"
        for t in ("pair", "pairing"):
            self.c["oregon"].put_item(TableName=t, Item={"id": s(secret), "x": s(secret)})
        settle()
        for t in ("pair", "pairing"):
            self.assertEqual(self.c["mumbai"].get_item(TableName=t, Key={"id": s(secret)})["Item"]["x"], s(secret))
            for call in (
                lambda: self.c["paris"].get_item(TableName=t, Key={"id": s(secret)}),
                lambda: self.c["paris"].put_item(TableName=t, Item={"id": s(secret)}),
                lambda: self.c["paris"].scan(TableName=t),
                lambda: self.c["paris"].describe_table(TableName=t),
            ):
                self.refused("ResourceNotFoundException", call)
            self.assertNotIn(t, self.c["paris"].list_tables()["TableNames"])
        grep = lambda r: subprocess.run(["grep", "-rlaF", secret, f"{DATA}/{r}"], capture_output=True, text=True).stdout
        self.assertTrue(grep("mumbai"), "it is found where it should be")
        self.assertEqual(grep("paris"), "")

    def test_region_by_its_alias(self):
        c = client("mumbai", name="ap-south-1")
        c.put_item(TableName="carts", Item={"id": s("alias")})
        self.assertIn("Item", c.get_item(TableName="carts", Key={"id": s("alias")}))
        for name in ("oregon", "us-west-2", "eu-west-1"):
            self.refused("InvalidSignatureException", client("mumbai", name=name).list_tables, says="mumbai")

    def test_aws_cli(self):
        lines = dict(l.removeprefix("export ").split("=", 1) for l in run("env", "mumbai").splitlines())
        env = {**os.environ, **{k: v.strip("'\"") for k, v in lines.items()}, "AWS_PAGER": ""}

        def aws(*args):
            done = subprocess.run(["aws", "dynamodb", *args], capture_output=True, text=True, env=env)
            self.assertEqual(done.returncode, 0, done.stderr)
            return json.loads(done.stdout) if done.stdout else None

        aws("put-item", "--table-name", "carts", "--item", '{"id": {"S": "cli"}, "n": {"N": "1"}}')
        got = aws("update-item", "--table-name", "carts", "--key", '{"id": {"S": "cli"}}', "--update-expression", "ADD n :one",
                  "--expression-attribute-values", '{":one": {"N": "1"}}', "--return-values", "ALL_NEW")
        self.assertEqual(got["Attributes"]["n"], n(2))
        made = aws("create-table", "--table-name", "from-cli", "--key-schema", "AttributeName=id,KeyType=HASH", "--attribute-definitions",
                   "AttributeName=id,AttributeType=S", "--billing-mode", "PAY_PER_REQUEST", "--tags", "Key=antipode:writes,Value=local",
                   "Key=antipode:rule,Value=last-writer")
        self.assertEqual(made["TableDescription"]["TableName"], "from-cli")
        aws("wait", "table-exists", "--table-name", "from-cli")
        self.assertIn("from-cli", aws("list-tables")["TableNames"])
        aws("delete-table", "--table-name", "from-cli")


if __name__ == "__main__":
    unittest.main(verbosity=2)
