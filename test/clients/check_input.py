"""Bad input: each gets its clear refusal, and the region goes on."""

import tempfile
import time
import unittest

import botocore.auth
import botocore.awsrequest
import botocore.credentials
from urllib.parse import urlparse
import http.client

from system import *


def call(operation, body, region="oregon", timeout=30):
    """A signed request with any bytes as its body."""
    if isinstance(body, str):
        body = body.encode()
    p = profile(region)
    request = botocore.awsrequest.AWSRequest(
        "POST", p["endpoint_url"] + "/", data=body,
        headers={"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDB_20120810." + operation},
    )
    botocore.auth.SigV4Auth(
        botocore.credentials.Credentials(p["aws_access_key_id"], p["aws_secret_access_key"]), "dynamodb", p["region"]
    ).add_auth(request)
    at = urlparse(p["endpoint_url"])
    c = http.client.HTTPConnection(at.hostname, at.port, timeout=timeout)
    try:
        c.request("POST", "/", body, dict(request.headers))
        r = c.getresponse()
        return r.status, r.read().decode()
    finally:
        c.close()


class Bodies(Case):
    @classmethod
    def setUpClass(cls):
        cls.pids = {r: region_pid(r) for r in REGIONS}

    def tearDown(self):
        for r in REGIONS:
            self.assertEqual(region_pid(r), self.pids[r], f"{r} goes on")
        client("oregon").put_item(TableName="carts", Item={"id": s("alive")})

    def bad(self, operation, body, code, status=400, within=10):
        (got, text), took = timed(call, operation, body)
        self.assertEqual(got, status, text[:300])
        self.assertIn(code, text[:300])
        self.assertLess(took, within)
        self.assertLess(len(text), 5000, "an error is short")
        return text

    def test_malformed(self):
        for body in ("", "{", "[]", "null", '"x"', "{]", '{"TableName"', b"\xff\xfe", b"\x00" * 100, '{"TableName":"carts"}x', "{" * 100, "\ufeff{}"):
            self.bad("GetItem", body, "SerializationException")
        self.bad("GetItem", '{"TableName":7,"Key":{}}', "SerializationException")
        self.bad("GetItem", '{"TableName":"carts","Key":[]}', "SerializationException")
        self.bad("GetItem", '{"TableName":"carts","Key":{"id":"x"}}', "SerializationException")
        self.bad("GetItem", "{}", "ValidationException")

    def test_attribute_types(self):
        for value in ('{"X":"x"}', "{}", '{"S":"a","N":"1"}', '{"N":1}', '{"S":1}', '{"BOOL":"x"}', '{"B":"***"}', '{"L":{}}', '{"M":[]}',
                      '{"SS":[1]}', '{"NULL":false}', '{"S":null}', '{"N":"abc"}', '{"SS":[]}'):
            (got, text) = call("PutItem", '{"TableName":"carts","Item":{"id":{"S":"bad"},"v":%s}}' % value)
            self.assertEqual(got, 400, value + text)
            self.assertRegex(text, "ValidationException|SerializationException")
        self.assertNotIn("Item", client("oregon").get_item(TableName="carts", Key={"id": s("bad")}))

    def test_deep_values(self):
        for depth, code in ((31, None), (33, "ValidationException"), (1000, "ValidationException|SerializationException"), (1_000_000, "SerializationException|ValidationException")):
            body = '{"TableName":"carts","Item":{"id":{"S":"deep"},"v":' + '{"L":[' * depth + '{"S":"x"}' + "]}" * depth + "}}"
            status, text = call("PutItem", body)
            if code is None:
                self.assertEqual(status, 200, text)
            else:
                self.assertIn(status, (400, 413))
                self.assertRegex(text, code)
        for body in ("[" * 5_000_000, '{"a":' * 2_000_000):
            status, text = call("GetItem", body)
            self.assertIn(status, (400, 413))

    def test_deep_expressions(self):
        for expression in ("(" * 1_000_000 + "a = :v" + ")" * 1_000_000, "NOT " * 1_000_000 + "a = :v", "(" * 1_000_000,
                           "a = :v" + " AND a = :v" * 200_000, "a" + ".a" * 500_000 + " = :v", "a" + "[0]" * 300_000 + " = :v", "size(" * 100_000):
            body = json.dumps({"TableName": "carts", "Item": {"id": s("x")}, "ConditionExpression": expression, "ExpressionAttributeValues": {":v": s("v")}})
            self.bad("PutItem", body, "ValidationException")
            body = json.dumps({"TableName": "carts", "Key": {"id": s("x")}, "UpdateExpression": "SET q = " + expression, "ExpressionAttributeValues": {":v": s("v")}})
            self.bad("UpdateItem", body, "ValidationException")
            body = json.dumps({"TableName": "carts", "KeyConditionExpression": expression, "ExpressionAttributeValues": {":v": s("v")}})
            self.bad("Query", body, "ValidationException")
            body = json.dumps({"TableName": "carts", "ProjectionExpression": expression})
            self.bad("Scan", body, "ValidationException")

    def test_enormous(self):
        status, text = call("PutItem", '{"TableName":"carts","Item":{"id":{"S":"' + "x" * (15 << 20) + '"}}}')
        self.assertEqual(status, 400)
        try:
            status, text = call("PutItem", '{"TableName":"carts","Item":{"id":{"S":"' + "x" * (40 << 20) + '"}}}')
            self.assertEqual(status, 413)
        except (ConnectionError, BrokenPipeError):
            pass  # it does not read on

    def test_too_large_item(self):
        c = client("oregon")
        for size, ok in ((409_600 - 3, True), (409_600 - 2, False)):  # less "id", "x" and their values
            args = dict(TableName="carts", Item={"id": s("k"), "x": s("x" * (size - 1))})
            if ok:
                c.put_item(**args)
            else:
                self.refused("ValidationException", c.put_item, says="Item size has exceeded the maximum allowed size", **args)
        self.refused("ValidationException", c.update_item, TableName="carts", Key={"id": s("k")}, UpdateExpression="SET y = x",
                     says="Item size to update has exceeded the maximum allowed size")
        # It is refused as well where the writer is far away.
        m = client("mumbai")
        self.refused("ValidationException", m.put_item, TableName="catalog", Item={"id": s("k"), "x": s("x" * 409_600)}, says="Item size")

    def test_slow_and_broken_connections(self):
        import socket

        at = urlparse(profile("oregon")["endpoint_url"])
        socks = [socket.create_connection((at.hostname, at.port)) for _ in range(50)]
        for i, x in enumerate(socks):
            x.sendall([b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{", b"GARBAGE\r\n\r\n", b"\x16\x03\x01", b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                       b"POST / HTTP/1.1\r\nX: " + b"a" * 20000 + b"\r\n"][i % 5])
        client("oregon").list_tables()
        for x in socks:
            x.close()


def free_ports(count):
    import socket

    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [x.getsockname()[1] for x in socks]
    for x in socks:
        x.close()
    return ports


class Commands(Case):
    """Regions and specs that can't start say why, and what to do."""

    def setUp(self):
        self.dir = self.enterContext(tempfile.TemporaryDirectory())

    def fails(self, *args, says, code=1, data=None):
        done = run(*args, check=False, data=data or os.path.join(self.dir, "data"), timeout=30)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        for text in [says] if isinstance(says, str) else says:
            self.assertRegex(done.stderr, text)
        self.assertNotIn("goroutine", done.stderr)
        return done.stderr

    def spec(self, text):
        path = os.path.join(self.dir, "antipode.yaml")
        with open(path, "w") as f:
            f.write(text)
        return path

    def test_spec_with_a_typo(self):
        path = self.spec("regions:\n  - name: oregon\n    location: us-west-2\ntables:\n  - name: carts\n    key: id\n    wirtes: local\n    rule: last-writer\n")
        self.fails("up", "-f", path, code=2, says=[r"antipode.yaml:7:5", "wirtes: local", 'did you mean "writes"'])
        path = self.spec("regions: [\n")
        self.fails("up", "-f", path, code=2, says="antipode.yaml:")
        path = self.spec("regions:\n  - {name: oregon, location: us-west-2}\ntables:\n  - {name: carts, key: id, writes: local}\n")
        self.fails("up", "-f", path, code=2, says=["rule", "last-writer"])
        self.fails("up", "-f", os.path.join(self.dir, "nothing.yaml"), code=1, says="nothing.yaml")
        self.assertFalse(os.path.exists(os.path.join(self.dir, "data", "oregon")))

    def test_up_twice(self):
        self.fails("up", data=DATA, says="another `antipode up`")

    def test_port_in_use(self):
        port = urlparse(profile("oregon")["endpoint_url"]).port
        self.fails("up", "--base-port", str(port), says=[str(port), "--base-port"])

    def test_other_regions_directory(self):
        with open(os.path.join(DATA, "antipode.yaml")) as f:
            path = self.spec(f.read())
        data = os.path.join(self.dir, "data")
        os.makedirs(data)
        os.symlink(os.path.join(DATA, "oregon"), os.path.join(data, "mumbai"))
        self.fails("region", "run", "mumbai", "-f", path, says=["oregon"])

    def test_newer_version(self):
        import shutil

        with open(os.path.join(DATA, "antipode.yaml")) as f:
            path = self.spec(f.read())
        data = os.path.join(self.dir, "data")
        os.makedirs(os.path.join(data, "oregon"))
        with open(os.path.join(DATA, "oregon", "region.json")) as f:
            made = json.load(f)
        made["format"] += 1
        with open(os.path.join(data, "oregon", "region.json"), "w") as f:
            json.dump(made, f)
        self.fails("region", "run", "oregon", "-f", path, says=["newer"])

    def test_second_process_of_a_region(self):
        self.fails("region", "run", "oregon", data=DATA, says="in use|runs already|another process|locked")
        client("oregon").put_item(TableName="carts", Item={"id": s("alive")})

    def test_off_loopback_needs_tls(self):
        path = self.spec("regions:\n  - {name: solo, location: us-west-2, addresses: {api: '0.0.0.0:%d', operator: '127.0.0.1:%d', link: '127.0.0.1:%d'}}\n"
                         % tuple(free_ports(3)))
        data = os.path.join(self.dir, "data")
        run("ca", "init", "--region", "solo", data=data)
        self.fails("region", "run", "solo", "-f", path, code=2, says=["0.0.0.0", "tls: {cert"])

    def test_misspelt_commands(self):
        done = run("statsu", check=False, data=None)
        self.assertEqual(done.returncode, 2)
        self.assertIn("status", done.stderr)
        self.fails("env", "oregno", code=2, says="oregon", data=DATA)
        self.fails("link", "cut", "oregon", "oregon", code=2, says="itself", data=DATA)
        self.fails("link", "delay", "oregon", "mumbai", "75", code=2, says="75ms", data=DATA)
        self.fails("home", "carts", "x", says="partitioned", data=DATA)
        self.fails("status", says="antipode up")
        self.fails("collision", "list", says="TABLE", code=2, data=DATA)


class Links(Case):
    def test_delay(self):
        m = client("mumbai")
        try:
            run("link", "delay", "oregon", "mumbai", "400ms")
            m.put_item(TableName="catalog", Item={"id": s("slow")})
            _, took = timed(m.put_item, TableName="catalog", Item={"id": s("slow")})
            self.assertGreater(took, 0.8)
            run("link", "delay", "oregon", "mumbai", "5ms")
            time.sleep(1)
            m.put_item(TableName="catalog", Item={"id": s("quick")})
            _, took = timed(m.put_item, TableName="catalog", Item={"id": s("quick")})
            self.assertLess(took, 0.15)
        finally:
            run("link", "delay", "oregon", "mumbai", "111ms")

    def test_wait_says_what_is_missing(self):
        cut("oregon", "paris")
        try:
            until(lambda: states()["paris"] != "live", 20)
            done = run("status", "--wait", "1s", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, "oregon|paris")
        finally:
            heal("oregon", "paris")
        settle()


if __name__ == "__main__":
    unittest.main(verbosity=2)
