"""What the checks share: the regions that clients_test.go started, seen as a user sees them.

The environment names the program (ANTIPODE), the data directory (ANTIPODE_DATA) and what
`up` printed (ANTIPODE_UP_LOG). Nothing in here knows more of a region than its user does.
"""

import configparser
import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
import unittest

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ANTIPODE = os.environ["ANTIPODE"]
DATA = os.environ["ANTIPODE_DATA"]
UP_LOG = os.environ["ANTIPODE_UP_LOG"]
REGIONS = ("oregon", "mumbai", "paris")
RTT = {  # seconds, what the links between these places are held to
    frozenset(("oregon", "mumbai")): 0.217,
    frozenset(("oregon", "paris")): 0.120,
    frozenset(("mumbai", "paris")): 0.090,
}

LOCAL = 0.085  # seconds; no answer that needs another region comes this soon


def rtt(a, b):
    return RTT[frozenset((a, b))]


def profile(region):
    file = configparser.ConfigParser(interpolation=None)
    file.read(os.path.join(DATA, "credentials"))
    return file[region]


def client(region, retries=0, key=None, secret=None, name=None, token=None, timeout=20):
    p = profile(region)
    return boto3.client(
        "dynamodb",
        endpoint_url=p["endpoint_url"],
        region_name=name or p["region"],
        aws_access_key_id=key or p["aws_access_key_id"],
        aws_secret_access_key=secret or p["aws_secret_access_key"],
        aws_session_token=token,
        config=Config(
            retries={"total_max_attempts": retries + 1, "mode": "standard"},
            read_timeout=timeout,
            connect_timeout=5,
            max_pool_connections=32,
        ),
    )


def all_clients(**options):
    return {r: client(r, **options) for r in REGIONS}


def run(*args, check=True, input=None, program=ANTIPODE, data=DATA, timeout=60):
    """Runs an antipode command and returns what it printed, or the whole result unless check."""
    command = [program, *args]
    if data:
        command += ["--data", data]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, input=input)
    if not check:
        return done
    if done.returncode != 0:
        raise AssertionError(f"{shlex.join(command)} gave {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def run_json(*args):
    return json.loads(run(*args, "-o", "json"))


def settle(timeout="45s"):
    """Waits until every region has applied what the others wrote."""
    run("status", "--wait", timeout, timeout=120)


def until(condition, seconds=20, what="it"):
    end = time.monotonic() + seconds
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain for {what}; last: {got!r}")
        time.sleep(0.05)


def timed(call, *args, **kwargs):
    start = time.monotonic()
    got = call(*args, **kwargs)
    return got, time.monotonic() - start


def cut(a, b):
    run("link", "cut", a, b)


def heal(a, b):
    run("link", "heal", a, b)


def pairs():
    return [(a, b) for i, a in enumerate(REGIONS) for b in REGIONS[i + 1 :]]


def region_pid(name):
    """The process that runs a region of DATA, found as `ps` finds it."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                args = f.read().decode().split("\0")
        except OSError:
            continue
        if args[1:4] == ["region", "run", name] and DATA in args:
            return int(pid)
    raise AssertionError(f"no process runs {name}")


class Restarted:
    """Regions that a check killed and started again; they end with the check's process."""

    processes = []

    @classmethod
    def kill(cls, name):
        with open(UP_LOG) as f:
            before = len(f.read())
        os.kill(region_pid(name), signal.SIGKILL)

        def told():
            with open(UP_LOG) as f:
                return re.search(rf"region {name} .*?\n  (\S.* region run {name}.*)\n", f.read()[before:])

        return until(told, what=f"`up` to say that {name} died").group(1)

    @classmethod
    def start(cls, name, command):
        log = open(os.path.join(DATA, name, "log"), "a")
        p = subprocess.Popen(shlex.split(command), stdout=log, stderr=log)
        log.close()
        cls.processes.append(p)
        until(lambda: states()[name] == "live", 30, f"{name} to be live again")

    @classmethod
    def stop_all(cls):
        for p in cls.processes:
            p.terminate()
        for p in cls.processes:
            p.wait(30)
        cls.processes = []


def states():
    return {r["name"]: r["state"] for r in run_json("status")["regions"]}


def s(text):
    return {"S": text}


def n(number):
    return {"N": str(number)}


class Case(unittest.TestCase):
    maxDiff = 4000

    def fast(self, call, *args, **kwargs):
        """The call needs no other region: on a busy machine one may be slow, but not each of ten."""
        for _ in range(10):
            got, took = timed(call, *args, **kwargs)
            if took < LOCAL:
                return got
        self.fail(f"it took {took * 1000:.0f} ms, ten times in a row: it asks another region")

    def refused(self, code, call, *args, status=None, says=None, **kwargs):
        """The call must be refused with this code; returns the error."""
        with self.assertRaises(ClientError) as caught:
            call(*args, **kwargs)
        e = caught.exception
        self.assertEqual(e.response["Error"]["Code"], code, str(e))
        if status:
            self.assertEqual(e.response["ResponseMetadata"]["HTTPStatusCode"], status, str(e))
        if says:
            self.assertRegex(e.response["Error"]["Message"], says)
        return e


class Load(threading.Thread):
    """One of several threads that write until told to stop, and remember what was acknowledged."""

    def __init__(self, write, number):
        super().__init__(daemon=True)
        self.write, self.number = write, number
        self.acknowledged, self.refused = {}, 0
        self.ending = threading.Event()

    def run(self):
        i = 0
        while not self.ending.is_set():
            i += 1
            try:
                key, value = self.write(self.number, i)
                self.acknowledged[key] = value
            except Exception:  # a region in the middle of dying says many things
                self.refused += 1
                time.sleep(0.05)
