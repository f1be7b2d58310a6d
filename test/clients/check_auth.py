"""Who may do what: signatures, clocks, access keys with a scope, and what each refusal is called."""

import datetime
import http.client
import time
import unittest
from unittest import mock
from urllib.parse import urlparse

import botocore.auth

from system import *


def post(region, body, headers, path="/"):
    """A request as it is given, unsigned unless the headers say otherwise."""
    at = urlparse(profile(region)["endpoint_url"])
    c = http.client.HTTPConnection(at.hostname, at.port, timeout=30)
    c.request("POST", path, body, {"Content-Type": "application/x-amz-json-1.0", **headers})
    r = c.getresponse()
    got = r.status, r.read().decode()
    c.close()
    return got


class Signatures(Case):
    def put(self, c, key="auth"):
        return c.put_item(TableName="carts", Item={"id": s(key)})

    def test_unknown_key(self):
        self.refused("UnrecognizedClientException", self.put, client("oregon", key="AKIAIOSFODNN7EXAMPLE"), status=400)
        # The keys of one region are not those of another.
        p = profile("mumbai")
        self.refused("UnrecognizedClientException", self.put, client("oregon", key=p["aws_access_key_id"], secret=p["aws_secret_access_key"]))

    def test_wrong_secret(self):
        self.refused("InvalidSignatureException", self.put, client("oregon", secret="x" * 40), status=400, says="does not match")

    def test_skewed_clock(self):
        c = client("oregon")
        real = datetime.datetime.now(datetime.timezone.utc)
        for minutes in (-20, 20):
            with mock.patch("botocore.auth.get_current_datetime", lambda **_: (real + datetime.timedelta(minutes=minutes)).replace(tzinfo=None)):
                self.refused("InvalidSignatureException", self.put, c, says="Signature (expired|not yet current)")
        self.put(c)

    def test_unsigned(self):
        head = {"X-Amz-Target": "DynamoDB_20120810.ListTables"}
        status, text = post("oregon", "{}", head)
        self.assertEqual(status, 400)
        self.assertIn("MissingAuthenticationTokenException", text)
        for auth in ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a", "Bearer x", "AWS4-HMAC-SHA256 " + "A" * 5000):
            status, text = post("oregon", "{}", {**head, "Authorization": auth})
            self.assertIn(status, (400, 403), text)
            self.assertNotIn("TableNames", text)

    def test_changed_on_the_way(self):
        c = client("oregon")

        def change(request, **_):
            request.body = request.body.replace(b"harmless", b"harmful!")

        c.meta.events.register("before-send.dynamodb", change)
        self.refused("InvalidSignatureException", self.put, c, "harmless")

    def test_unknown_operation(self):
        status, text = post("oregon", "{}", {"X-Amz-Target": "DynamoDB_20120810.Nonsense"})
        self.assertEqual(status, 400)
        self.assertIn("UnknownOperationException", text)
        self.refused("UnknownOperationException", client("oregon").describe_backup, BackupArn="arn:aws:dynamodb:oregon:1:table/x/backup/1" + "0" * 30)


class Keys(Case):
    def make(self, *scope):
        got = run_json("key", "create", "oregon", *scope)
        return client("oregon", key=got["id"], secret=got["secret"]), got["id"]

    def test_read_only(self):
        client("oregon").put_item(TableName="carts", Item={"id": s("ro")})
        c, _ = self.make("--read-only")
        self.assertIn("Item", c.get_item(TableName="carts", Key={"id": s("ro")}))
        c.list_tables()
        c.describe_table(TableName="carts")
        for call, args in (
            (c.put_item, dict(TableName="carts", Item={"id": s("ro")})),
            (c.delete_item, dict(TableName="carts", Key={"id": s("ro")})),
            (c.update_item, dict(TableName="carts", Key={"id": s("ro")}, UpdateExpression="REMOVE x")),
            (c.batch_write_item, dict(RequestItems={"carts": [{"DeleteRequest": {"Key": {"id": s("ro")}}}]})),
            (c.delete_table, dict(TableName="carts")),
            (c.create_table, dict(TableName="nope", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}], BillingMode="PAY_PER_REQUEST",
                                  AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}])),
        ):
            self.refused("AccessDeniedException", call, status=400, says="not authorized to perform: dynamodb:", **args)
        self.assertIn("Item", c.get_item(TableName="carts", Key={"id": s("ro")}))

    def test_per_table(self):
        c, _ = self.make("--table", "carts", "--table", "users")
        c.put_item(TableName="carts", Item={"id": s("pt")})
        c.put_item(TableName="users", Item={"id": s("pt")})
        for call, args in (
            (c.get_item, dict(TableName="catalog", Key={"id": s("pt")})),
            (c.put_item, dict(TableName="catalog", Item={"id": s("pt")})),
            (c.scan, dict(TableName="catalog")),
            (c.query, dict(TableName="catalog", KeyConditionExpression="id = :a", ExpressionAttributeValues={":a": s("a")})),
            (c.describe_table, dict(TableName="catalog")),
            (c.delete_table, dict(TableName="catalog")),
            (c.get_item, dict(TableName="no-such-table", Key={"id": s("pt")})),  # nor does it learn which tables there are
            (c.batch_get_item, dict(RequestItems={"carts": {"Keys": [{"id": s("a")}]}, "catalog": {"Keys": [{"id": s("a")}]}})),
            (c.batch_write_item, dict(RequestItems={"carts": [{"PutRequest": {"Item": {"id": s("smuggled")}}}],
                                                    "catalog": [{"PutRequest": {"Item": {"id": s("smuggled")}}}]})),
            (c.list_tags_of_resource, dict(ResourceArn="arn:aws:dynamodb:oregon:000000000000:table/catalog")),
        ):
            self.refused("AccessDeniedException", call, **args)
        self.assertNotIn("Item", client("oregon").get_item(TableName="carts", Key={"id": s("smuggled")}))
        self.assertEqual(set(c.list_tables()["TableNames"]) - {"carts", "users"}, set())

    def test_revoke_and_rotate(self):
        c, key = self.make()
        c.list_tables()
        run("key", "revoke", "oregon", key)
        self.refused("UnrecognizedClientException", c.list_tables)

        old, key = self.make("--read-only")
        got = run_json("key", "rotate", "oregon", key)
        new = client("oregon", key=got["id"], secret=got["secret"])
        old.list_tables()
        new.list_tables()
        self.refused("AccessDeniedException", new.put_item, TableName="carts", Item={"id": s("x")})
        run("key", "revoke", "oregon", key)
        self.refused("UnrecognizedClientException", old.list_tables)
        old, key = new, got["id"]
        got = run_json("key", "rotate", "oregon", key, "--grace", "0s")
        self.refused("UnrecognizedClientException", old.list_tables)
        client("oregon", key=got["id"], secret=got["secret"]).list_tables()

        listed = {k["id"] for k in run_json("key", "list", "oregon")["keys"]}
        self.assertIn(got["id"], listed)
        self.assertNotIn(got["secret"], run("key", "list", "oregon", "-o", "json"))
        done = run("key", "revoke", "oregon", "AKIANOTTHERE", check=False)
        self.assertEqual(done.returncode, 1)

    def test_files_are_private(self):
        for name in ("credentials", "oregon/operator.token", "oregon/keys.json", "oregon/identity/root-key.pem"):
            self.assertEqual(os.stat(os.path.join(DATA, name)).st_mode & 0o077, 0, name)

    def test_operator_port(self):
        at = urlparse(profile("oregon")["endpoint_url"])
        c = http.client.HTTPConnection(at.hostname, at.port + 1, timeout=10)
        self.addCleanup(c.close)

        def get(path, method="GET", **headers):
            c.request(method, path, headers=headers)
            r = c.getresponse()
            return r.status, r.read().decode()

        self.assertEqual(get("/healthz")[0], 200)
        status, text = get("/metrics")
        self.assertEqual(status, 200)
        self.assertRegex(text, r"(?m)^antipode_\w+")
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": ""}):
            for path in ("/v1/status", "/v1/keys", "/v1/collisions/carts", "/v1/links/mumbai"):
                for method in ("GET", "POST"):
                    self.assertIn(get(path, method, **headers)[0], (401, 403), path)


if __name__ == "__main__":
    unittest.main(verbosity=2)
