#!/usr/bin/env python3
"""Puts a mixed load on `tokenry serve`, and checks its responses, its memory and its database file.

    soak.py TOKENRY MINUTES

TOKENRY is the path of the built command. The clients send real HTTP requests. Each client creates
ecosystems, users and tokens, uses and revokes them, sends bad requests, and deletes its ecosystems.
Other clients are slow: they send one byte after the other and never finish a request.

The script fails if a response has an unexpected status, if the server logs a 5xx, if the server
uses more than 130 MB of memory, or if its memory or its database file keeps growing.
"""

import contextlib
import http.client
import itertools
import json
import os
import pathlib
import random
import socket
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.parse

from serve import must, serving

CLIENTS, SLOW_CLIENTS = 6, 200
# The number of steps after which a client deletes its ecosystem and starts with a new one.
STEPS = 400
# The tokens of a deleted ecosystem are invalid at the latest after this number of seconds.
WITHIN = 30
# The number of measurements, at equal intervals.
SAMPLES = 30
MB = 1024 * 1024
MEMORY = 130 * MB
# The mean of the last third of the measurements, divided by the mean of the first third, must be
# lower than this. At the start, the caches are still empty.
FLAT = 1.2
# SQLite stores each key also in an index, and fills pages only in part. It reuses the pages of
# deleted items, but the file does not become smaller. The size of the file, divided by the largest
# size of the items so far, must be lower than this.
OVERHEAD = 4
# After 1,000 pages, SQLite moves the write-ahead log to the database. It can only do so between
# transactions, so the log may become larger.
WRITE_AHEAD_LOG = 32 * MB
PASSWORD = "a password for the soak"


class Unexpected(Exception):
    pass


class Client:
    """A client with one connection, which it opens again if the server has closed it."""

    def __init__(self, start, seed):
        self.address = urllib.parse.urlsplit(start["url"]).netloc
        self.account = start["accountToken"]
        self.random = random.Random(seed)
        self.seed, self.count, self.number = seed, 0, 0
        self.connection = None
        # Tokens of deleted ecosystems, each with the time of the deletion.
        self.ended = []

    def ask(self, expected, token, method, path, body=None, form=None):
        """Sends a request. The response must have one of the statuses `expected`."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = body if isinstance(body, str) else json.dumps(body)
        if form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(form)
        path = urllib.parse.quote(path, safe="/;?=&%")
        for is_retry in (False, True):
            try:
                if not self.connection:
                    self.connection = http.client.HTTPConnection(self.address, timeout=30)
                self.connection.request(method, path, body, headers)
                response = self.connection.getresponse()
                text = response.read()
                break
            except (http.client.RemoteDisconnected, ConnectionError):
                # The server may close an idle connection.
                self.connection.close()
                self.connection = None
                if is_retry:
                    raise
        self.count += 1
        if response.status not in expected:
            raise Unexpected(f"{method} {path}: {response.status} {text.decode()[:300]}")
        with contextlib.suppress(ValueError):
            return json.loads(text)

    def run(self, ended):
        while not ended.is_set():
            self.number += 1
            self.live_once(ended)

    def live_once(self, ended):
        """Creates an ecosystem, works in it, and deletes it."""
        ecosystem = self.ask([201], self.account, "POST", "/api/ecosystems")["id"]
        self.server = self.ask([200], self.account, "POST",
                               f"/api/ecosystems/{ecosystem}/tokens?expiryType=SlidingTtl&ttl=600")["token"]
        place = self.ask([201], self.server, "POST", f"/api/ecosystems/{ecosystem}/environments")["id"]
        self.ecosystem, self.place = ecosystem, place
        self.people, self.tokens = [], []
        for number in range(5):
            email = f"soak-{self.seed}-{self.number}-{number}@example.com"
            id = f"{ecosystem};{number}"
            self.ask([201], self.server, "PUT", f"/api/users/{id}", {"email": email, "password": PASSWORD})
            self.people.append((id, email))
        work = [(self.mint, 30), (self.introspect, 30), (self.list_all, 8), (self.change, 8), (self.revoke, 10),
                (self.code, 6), (self.log_in, 1), (self.mistake, 10), (self.whoami, 10), (self.revoke_all, 1)]
        steps, weights = zip(*work)
        for step in self.random.choices(steps, weights, k=STEPS):
            if ended.is_set():
                break
            step()
        self.ask([204], self.account, "DELETE", f"/api/environments/{place}")
        self.ask([204], self.account, "DELETE", f"/api/users/{self.people[0][0]}")
        self.ask([204], self.account, "DELETE", f"/api/ecosystems/{ecosystem}")
        self.ended += [(time.monotonic(), token) for _, token, _ in self.tokens[:3]]
        while self.ended and time.monotonic() - self.ended[0][0] > WITHIN:
            self.expect_active(self.ended.pop(0)[1], False)

    def expect_active(self, token, active):
        seen = self.ask([200], self.account, "POST", "/api/auth/introspect", form={"token": token})
        if seen["active"] != active:
            raise Unexpected(f"introspection: active is {seen['active']} instead of {active}")

    def user(self):
        return self.random.choice(self.people)

    def mint(self):
        id, _ = self.user()
        kind, ttl = self.random.choice([("FixedTtl", 5), ("FixedTtl", 60), ("SlidingTtl", 30), ("Infinite", None)])
        body = {"expiryType": kind, "name": "soak", "metadata": {"number": self.number}}
        body |= {"ttl": ttl} if ttl else {}
        made = self.ask([200], self.server, "POST", f"/api/users/{id}/tokens", body)
        self.tokens.append((id, made["token"], made["tokenId"]))
        self.expect_active(made["token"], True)
        del self.tokens[:-100]

    def introspect(self):
        for _, token, _ in self.random.sample(self.tokens, min(2, len(self.tokens))):
            self.ask([200], self.server, "POST", "/api/auth/introspect", form={"token": token})

    def whoami(self):
        for _, token, _ in self.random.sample(self.tokens, min(1, len(self.tokens))):
            self.ask([200, 401], token, "GET", "/api/auth/whoami")

    def list_all(self):
        path = self.random.choice([f"/api/users/{self.user()[0]}/tokens", f"/api/ecosystems/{self.ecosystem}/users",
                                   f"/api/ecosystems/{self.ecosystem}/environments", "/_/user-token"])
        self.ask([200], self.server, "GET", path)

    def change(self):
        if self.tokens:
            id, _, token_id = self.random.choice(self.tokens)
            body = {"name": f"soak {self.random.random()}"}
            self.ask([200, 404, 409], self.server, "PATCH", f"/api/users/{id}/tokens/{token_id}", body)

    def revoke(self):
        if self.tokens:
            id, token, token_id = self.tokens.pop(self.random.randrange(len(self.tokens)))
            if self.random.random() < 0.5:
                self.ask([204, 404], self.server, "DELETE", f"/api/users/{id}/tokens/{token_id}")
            else:
                self.ask([200], None, "POST", "/api/auth/revoke", form={"token": token})
            self.expect_active(token, False)

    def revoke_all(self):
        id, _ = self.user()
        self.ask([204], self.server, "DELETE", f"/api/users/{id}/tokens")
        for _, token, _ in [each for each in self.tokens if each[0] == id][:2]:
            self.expect_active(token, False)
        self.tokens = [each for each in self.tokens if each[0] != id]

    def code(self):
        target = self.random.choice([{"userId": self.user()[0]}, {"environmentId": self.place}])
        body = target | {"tokenTtl": 30, "tokenExpiryType": "FixedTtl"}
        code = self.ask([201], self.server, "POST", "/api/auth/shortcode/create", body)["shortcode"]
        made = self.ask([200], self.server, "POST", "/api/auth/shortcode/consume", {"shortcode": code})
        self.expect_active(made["token"], True)

    def log_in(self):
        _, email = self.user()
        right = {"email": email, "password": PASSWORD}
        if self.random.random() < 0.5:
            self.ask([200], self.server, "POST", "/_/user-token/value", right)
        else:
            session = self.ask([201], self.server, "POST", "/api/auth/sessions", right | {"ttl": 60, "maxTtl": 60})
            self.expect_active(session["token"], True)
        wrong = {"email": email, "password": "a wrong password"}
        self.ask([401, 429], self.server, "POST", "/_/user-token/value", wrong | {"clientAddress": self.source()})

    def source(self):
        """Returns an IP address for the field `clientAddress` of a log-in."""
        return f"198.51.{self.random.randrange(256)}.{self.random.randrange(256)}"

    def mistake(self):
        id, _ = self.user()
        path = f"/api/users/{id}/tokens"
        arguments = self.random.choice([
            ([400], self.server, "POST", path, "{"),
            ([400], self.server, "POST", f"{path}?ttl=0"),
            ([400], self.server, "POST", f"{path}?unknown=1"),
            ([401], "tk_uf_nonsense", "POST", path),
            ([401], None, "GET", path),
            ([403, 404], self.server, "GET", "/api/users/C000000000000000000000000;nobody"),
            ([404], self.server, "GET", f"/api/users/{id}/tokens/01ARZ3NDEKTSV4RRFFQ69G5FAV"),
            ([404], self.server, "GET", "/no/such/route"),
            ([404], self.server, "BREW", path),
            ([413], self.server, "POST", path, json.dumps({"name": "x" * 20000})),
        ])
        self.ask(*arguments)


def be_slow(address, ended):
    """Keeps SLOW_CLIENTS connections open that never finish a request. If the server closes one, opens
    another. Returns how many connections were opened."""
    host, port = address.rsplit(":", 1)
    start = b"POST /api/auth/revoke HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    sockets, opened = [], 0
    while not ended.wait(1):
        while len(sockets) < SLOW_CLIENTS:
            each = socket.create_connection((host, int(port)), timeout=30)
            each.sendall(start if opened % 2 else b"GET /")
            sockets.append(each)
            opened += 1
        for each in list(sockets):
            try:
                each.sendall(b"x")
            except OSError:
                each.close()
                sockets.remove(each)
    for each in sockets:
        each.close()
    return opened


def statuses(log, seen):
    """Reads the log, and counts the statuses of the responses. Keeps the lines of errors."""
    for line in log:
        fields = json.loads(line)
        if "status" in fields:
            status = fields["status"]
            seen[status] = seen.get(status, 0) + 1
        if fields["level"] == "ERROR" or fields.get("status", 0) >= 500:
            seen.setdefault("errors", []).append(line)


def measure(pid, data):
    """Returns the memory of the server, the sizes of the database file, of the write-ahead log and of
    the items, and the number of the items. The memory and the sizes are in bytes."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    memory = int(status.split("VmRSS:")[1].split()[0]) * 1024
    file = data / "database.sqlite"
    sizes = [each.stat().st_size if each.exists() else 0 for each in (file, data / "database.sqlite-wal")]
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as database:
        items = [database.execute(f'SELECT count(*), coalesce(sum(length(item_json)), 0) FROM "{table}"').fetchone()
                 for table in ("tokenry-identity", "tokenry-identity::gsi::email-tokens", "tokenry-ephemeral")]
    return memory, *sizes, sum(size for _, size in items), sum(count for count, _ in items)


def soak(tokenry, minutes):
    failures, slow, ended = [], [], threading.Event()

    def guarded(run, *arguments):
        try:
            return run(*arguments)
        except Exception as error:  # Every error of a client must fail the script.
            failures.append(f"{type(error).__name__}: {error}")
            ended.set()

    read, write = os.pipe()
    seen, samples = {}, []
    with tempfile.TemporaryDirectory() as directory:
        data = pathlib.Path(directory) / "data"
        reader = threading.Thread(target=statuses, args=(os.fdopen(read), seen))
        reader.start()
        with serving(tokenry, write, data) as start:
            os.close(write)
            began, end = time.monotonic(), time.monotonic() + minutes * 60
            clients = [Client(start, seed) for seed in range(CLIENTS)]
            address = clients[0].address
            threads = [threading.Thread(target=guarded, args=(client.run, ended)) for client in clients]
            threads.append(threading.Thread(target=lambda: slow.append(guarded(be_slow, address, ended))))
            for thread in threads:
                thread.start()
            print("minutes  requests  memory MB  file MB  log MB  items    items MB", flush=True)
            for number in range(1, SAMPLES + 1):
                ended.wait(max(0, began + (end - began) * number / SAMPLES - time.monotonic()))
                samples.append(measure(start["pid"], data))
                memory, file, log, size, count = samples[-1]
                elapsed, requests = (time.monotonic() - began) / 60, sum(each.count for each in clients)
                print(f"{elapsed:7.2f}  {requests:8}  {memory / MB:9.1f}  {file / MB:7.1f}  {log / MB:6.1f}  "
                      f"{count:7}  {size / MB:8.1f}", flush=True)
                if ended.is_set():
                    break
            ended.set()
            for thread in threads:
                thread.join()
        reader.join()
    return failures, seen, samples, sum(each.count for each in clients), slow[0], time.monotonic() - began


def thirds(values):
    """Returns the means of the first and of the last third."""
    third = max(1, len(values) // 3)
    return sum(values[:third]) / third, sum(values[-third:]) / third


def main(tokenry, minutes):
    failures, seen, samples, requests, slow, seconds = soak(tokenry, float(minutes))
    errors = seen.pop("errors", [])
    print("\nstatus  responses")
    for status in sorted(seen):
        print(f"{status:6}  {seen[status]:9}")
    must(not failures, "every response has an expected status", "\n".join(failures))
    must(requests > 0 and slow >= SLOW_CLIENTS,
         f"{CLIENTS} clients sent {requests} requests, {requests / seconds:.0f} a second; slow clients opened {slow} connections")
    must(not errors, "the server answered no request with a 5xx, and logged no error", "".join(errors[:5]))
    memory, files, logs, sizes, _ = zip(*samples)
    first, last = thirds(memory)
    must(max(memory) < MEMORY, f"memory stays under {MEMORY / MB:.0f} MB: {max(memory) / MB:.1f} MB at most")
    must(last < FLAT * first, f"memory is flat: {first / MB:.1f} MB in the first third, {last / MB:.1f} MB in the last")
    ratio = [file / size for file, size in zip(files, itertools.accumulate(sizes, max))]
    first, last = thirds(ratio)
    # In the first third, the file has few items, so the ratio may be high.
    must(max(ratio[len(ratio) // 3:]) < OVERHEAD,
         f"the database file has less than {OVERHEAD} times the largest size of its items: {first:.2f} times in the first third, {last:.2f} times in the last")
    must(max(logs) < WRITE_AHEAD_LOG, f"the write-ahead log stays under {WRITE_AHEAD_LOG / MB:.0f} MB: {max(logs) / MB:.1f} MB at most")


main(*sys.argv[1:])
