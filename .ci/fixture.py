#!/usr/bin/env python3
"""Creates a data directory of `tokenry serve` for the tests, or checks such a directory.

    fixture.py TOKENRY DIRECTORY            creates a new directory, and checks it
    fixture.py --check TOKENRY DIRECTORY    checks a copy of an existing directory

TOKENRY is the path of the built command. The database contains two accounts with items of every
kind. contents.json lists the items, with these fields among others:

- `about`: how the script created the item.
- `active`: for a token or a short code, whether it is valid until `expiresAt`. For a user, whether
  the user is active.
- `exists`: false if the item was deleted. For an e-mail token, also false if the API treats the
  token as deleted.
- `record`: an e-mail token as the API lists it.
- `spellings`: the user's e-mail address in several spellings. The API accepts each of them.
- `formerEmails`: e-mail addresses that the user had before.
"""

import json
import pathlib
import sqlite3
import sys
import time

from fixture_check import VALUE, Api, check, text_of, value_of
from serve import must, serving

# The longest `ttl` that the API allows for a token and for a short code, in seconds.
LONGEST, LONGEST_CODE = 315360000, 3600
LISTS = ["accounts", "ecosystems", "environments", "users", "tokens", "emailTokens", "shortcodes"]


class Account:
    """Creates items in an account, and adds them to the contents."""

    def __init__(self, api, contents, start):
        self.api, self.contents = api, contents
        self.key, self.ecosystem = start["accountToken"], start["ecosystemId"]
        claims = api.introspect(self.key, self.key)
        self.id = claims["sub"]
        self.contents["accounts"].append({"id": self.id} | start)
        self.add("ecosystems", "tokenry serve created it", id=self.ecosystem, exists=True)
        self.add("users", "tokenry serve created it", id=start["userId"], email=None, spellings=[],
                 password=None, admin=False, active=True, exists=True)
        self.add("tokens", "the account token in start.json", holder="account", sub=self.id,
                 token=self.key, tokenId=claims["jti"], expiryType="Infinite", expiresAt=None,
                 scope="read write", name=None, active=True)

    def add(self, list_name, about, **item):
        item = {"about": about, "accountId": self.id} | item
        self.contents[list_name].append(item)
        return item

    def ok(self, *arguments, **more):
        return self.api.ok(self.key, *arguments, **more)

    def new_ecosystem(self, about):
        id = self.ok("POST", "/api/ecosystems")["id"]
        return self.add("ecosystems", about, id=id, exists=True)

    def environment(self, about):
        path = f"/api/ecosystems/{self.ecosystem}/environments"
        environment = {"id": self.ok("POST", path)["id"], "ecosystemId": self.ecosystem}
        return self.add("environments", about, **environment, exists=True)

    def user(self, about, name, ecosystem=None, spellings=(), **change):
        """Creates a user. `change` has the fields of the request's body."""
        id = f"{ecosystem or self.ecosystem};{name}"
        user = self.ok("PUT", f"/api/users/{id}", change)
        more = {"password": change.get("password"), "exists": True}
        addresses = [change["email"], *spellings] if "email" in change else []
        return self.add("users", about, **user, spellings=addresses, **more)

    def token(self, about, user, name=None, **query):
        """Mints a token for a user or, if `user` is an ecosystem, a server token."""
        sub = user["id"]
        server = sub.startswith("C") and ";" not in sub
        path = f"/api/{'ecosystems' if server else 'users'}/{sub}/tokens"
        minted = self.ok("POST", path, query=query | ({"name": name} if name else {}))
        more = {"ttl": query.get("ttl"), "maxTtl": query.get("maxTtl"), "scope": "read write"}
        return self.add("tokens", about, holder="server" if server else "user", sub=sub, **minted,
                        **more, name=name, active=True)

    def email_token(self, about, user, **fields):
        """Creates an e-mail token. Without `fields`, logs in, and the log-in creates the token."""
        email = user["email"]
        if fields:
            record = self.ok("POST", "/_/user-token", {"email": email} | fields)["data"][0]
        else:
            must(self.api.log_in(user, email)[0] == 200, "a log-in creates a token")
            record = self.email_tokens()[user["id"]]
        value = value_of(self.ok("GET", VALUE, query={"email": email}))
        item = {"holder": "user", "sub": user["id"], "token": value, "tokenId": record["tokenId"]}
        return change_record(self.add("emailTokens", about, **item, exists=True), record)

    def email_tokens(self):
        """Returns the records of the account's e-mail tokens, by the id of their user."""
        return {each["userId"]: each for each in self.ok("GET", "/_/user-token")["data"]}

    def shortcode(self, about, token=None, **body):
        """Creates a short code with the longest ttl. Its exchange creates an Infinite token."""
        body |= {"shortCodeTtl": LONGEST_CODE, "tokenExpiryType": "Infinite"}
        # The code expires at `end`, or up to a second after `end`.
        end = time.time() + LONGEST_CODE
        code = self.api.ok(token or self.key, "POST", "/api/auth/shortcode/create", body)
        return self.add("shortcodes", about, **code, expiresAt=text_of(end), active=True)

    def exchange(self, code):
        """Exchanges a short code of an environment. Adds the new user and the new token."""
        status, minted = self.api.exchange(code["shortcode"])
        must(status == 200, "a short code can be exchanged", minted)
        code["active"] = False
        about = "the exchange of an environment's short code created it"
        user = {"id": minted["userId"], "email": None, "spellings": [], "password": None}
        self.add("users", about, **user, admin=False, active=True, exists=True,
                 environmentId=minted["environmentId"])
        fields = ["token", "tokenId", "expiryType", "expiresAt", "environmentId"]
        return self.add("tokens", about, holder="user", sub=user["id"], scope="read write",
                        name=None, active=True, **{field: minted[field] for field in fields})


def change_record(item, record):
    """Copies the fields of an e-mail token's record to an item."""
    endless = record["expiryType"] == "Infinite"
    end = None if endless else record["expiration_date"] / 1000
    item |= {"record": record, "expiryType": record["expiryType"], "name": None}
    item |= {"scope": "read write" if record["write"] else "read"}
    item |= {"expiresAt": end and text_of(end), "active": endless or end > time.time()}
    return item


def end_all(items):
    """Marks tokens as invalid. Also marks e-mail tokens as deleted, because no list contains them."""
    for item in items:
        item |= {"active": False} | ({"exists": False} if "record" in item else {})


def fill(api, contents, starts):
    """Creates the items. `starts` has the contents of start.json of both accounts."""
    own = Account(api, contents, starts[0])

    ada = own.user("has a token of every kind", "ada")
    own.token("Infinite", ada, expiryType="Infinite")
    own.token("FixedTtl with the longest ttl", ada, expiryType="FixedTtl", ttl=LONGEST)
    own.token("SlidingTtl with the longest ttl", ada, expiryType="SlidingTtl", ttl=LONGEST)
    own.token("SlidingTtl with maxTtl", ada, expiryType="SlidingTtl", ttl=LONGEST, maxTtl=LONGEST)
    own.token("a token with a name", ada, "Ada’s phone", expiryType="Infinite")
    expired = own.token("expired after a ttl of 1", ada, expiryType="FixedTtl", ttl=1)
    revoked = own.token("revoked by its id", ada, expiryType="Infinite")
    own.ok("DELETE", f"/api/users/{ada['id']}/tokens/{revoked['tokenId']}")
    itself = own.token("revoked with itself as the credential", ada, expiryType="Infinite")
    api.ok(None, "POST", "/api/auth/revoke", form={"token": itself["token"]})
    end_all([expired, revoked, itself])

    ben = own.user("all tokens were revoked, then one was created", "ben",
                   email="ben@example.com", password="password of ben")
    ended = [own.token(f"ended by the revocation of all tokens ({number} of 2)", ben,
                       expiryType="Infinite") for number in (1, 2)]
    ended.append(own.email_token("ended by the revocation of all tokens", ben, write=True))
    own.ok("DELETE", f"/api/users/{ben['id']}/tokens")
    end_all(ended)
    own.token("created after the revocation of all tokens", ben, expiryType="Infinite")

    ecosystem = contents["ecosystems"][0]
    own.token("a server token, Infinite", ecosystem, "back end", expiryType="Infinite")
    own.token("a server token, FixedTtl", ecosystem, expiryType="FixedTtl", ttl=LONGEST)
    own.token("a server token, SlidingTtl", ecosystem, expiryType="SlidingTtl", ttl=LONGEST)
    revoked = own.token("a revoked server token", ecosystem, expiryType="Infinite")
    own.ok("DELETE", f"/api/ecosystems/{ecosystem['id']}/tokens/{revoked['tokenId']}")
    end_all([revoked])

    def person(about, name, **more):
        fields = {"email": f"{name}@example.com", "password": f"password of {name}"} | more
        return own.user(about, name, **fields)

    cleo = person("has an e-mail token", "cleo")
    own.email_token("write, never expires", cleo, write=True)
    dan = person("has an e-mail token", "dan")
    own.email_token("read only, expires in 2100", dan, write=False, expiration_date=4102444800000)
    eva = person("has an expired e-mail token", "eva")
    own.email_token("expired in 2001", eva, write=True, expiration_date=1000000000000)
    finn = person("has a changed e-mail token", "finn")
    changed = own.email_token("was read only, then changed to write with an end in 2100", finn,
                              write=False)
    body = {"email": finn["email"], "write": True, "expiration_date": 4102444800000}
    change_record(changed, own.ok("PUT", "/_/user-token", body)["data"][0])
    gil = person("logged in", "gil")
    own.email_token("created by a log-in", gil)
    status, _ = api.log_in(gil | {"password": "wrong password"}, gil["email"])
    must(status == 401, "a log-in with a wrong password gets 401")
    person("has an address and a password, and no token", "hal")
    own.user("has an address without a password", "ian", email="ian@example.com")
    own.user("has a password without an address", "jo", password="password of jo")

    person("the spelling of the address is not the normal form", "Kim",
           email="Kim.Ö@BÜCHER.example",
           spellings=["kim.ö@xn--bcher-kva.example", "KIM.O\u0308@bücher.EXAMPLE"])
    person("name differs from Kim only in case, and e-mail address only in an accent", "kim",
           email="KIM.O@bücher.example", spellings=["kim.o@xn--bcher-kva.example"])

    admin = person("an admin user", "lea", admin=True)
    own.token("a token of an admin user", admin, expiryType="Infinite")
    own.email_token("an e-mail token of an admin user", admin, write=True)

    moved = person("the address was changed", "max", email="max.old@example.com")
    ended = [own.token("ended by a change of the address", moved, expiryType="Infinite"),
             own.email_token("ended by a change of the address", moved, write=True)]
    moved |= own.ok("PUT", f"/api/users/{moved['id']}", {"email": "max.new@example.com"})
    moved |= {"formerEmails": moved["spellings"], "spellings": [moved["email"]]}
    end_all(ended)
    own.token("created after a change of the address", moved, expiryType="Infinite")

    inactive = person("deactivated", "nora")
    ended = [own.token("ended by the deactivation", inactive, expiryType="Infinite"),
             own.email_token("ended by the deactivation", inactive, write=True)]
    inactive |= own.ok("PUT", f"/api/users/{inactive['id']}", {"active": False})
    deleted = person("deleted", "otto")
    ended += [own.token("ended by the deletion of the user", deleted, expiryType="Infinite"),
              own.email_token("ended by the deletion of the user", deleted, write=True)]
    own.ok("DELETE", f"/api/users/{deleted['id']}")

    environment = own.environment("has a user")
    code = own.shortcode("exchanged", environmentId=environment["id"])
    own.exchange(code)
    must(api.exchange(code["shortcode"])[0] == 404, "a short code cannot be exchanged twice")
    own.shortcode("of an environment, not exchanged", environmentId=environment["id"])
    own.shortcode("of a user, not exchanged", userId=ada["id"])
    first = next(each for each in contents["tokens"] if each["sub"] == ada["id"])
    own.shortcode("created by a user token, not exchanged", first["token"], userId=ada["id"])

    gone = own.environment("deleted")
    ended.append(own.exchange(own.shortcode("exchanged", environmentId=gone["id"])))
    own.ok("DELETE", f"/api/environments/{gone['id']}")
    lost = own.new_ecosystem("deleted")
    stray = own.user("in a deleted ecosystem", "pia", ecosystem=lost["id"], email="pia@example.com",
                     password="password of pia")
    ended += [own.token("ended by the deletion of the ecosystem", stray, expiryType="Infinite"),
              own.token("a server token of a deleted ecosystem", lost, expiryType="Infinite"),
              own.email_token("ended by the deletion of the ecosystem", stray, write=True)]
    own.ok("DELETE", f"/api/ecosystems/{lost['id']}")
    end_all(ended)
    for each in deleted, gone, lost, stray:
        each["exists"] = False

    other = Account(api, contents, starts[1])
    user = other.user("in the second account", "ada", email="ada@second.example",
                      password="password of the second ada")
    other.token("in the second account", user, expiryType="Infinite")
    other.email_token("in the second account", user, write=True)
    ecosystem = next(each for each in contents["ecosystems"] if each["accountId"] == other.id)
    other.token("a server token in the second account", ecosystem, expiryType="Infinite")
    environment = other.environment("in the second account")
    other.exchange(other.shortcode("exchanged", environmentId=environment["id"]))
    # During this pause, the token with a ttl of 1 expires.
    time.sleep(2)


def create(tokenry, directory):
    directory.mkdir(parents=True)
    contents = {"createdAt": text_of(time.time())} | {name: [] for name in LISTS}
    start = directory / "start.json"
    # The server creates an account if start.json does not exist. So the second start below creates
    # the second account.
    with serving(tokenry, sys.stderr, directory):
        pass
    starts = [json.loads(start.read_text())]
    first = start.rename(directory / "first.json")
    with serving(tokenry, sys.stderr, directory) as server:
        starts.append(json.loads(start.read_text()))
        fill(Api(server["url"]), contents, starts)
    first.replace(start)
    database = sqlite3.connect(directory / "database.sqlite")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.execute("VACUUM")
    database.close()
    text = json.dumps(contents, indent=2, ensure_ascii=False)
    (directory / "contents.json").write_text(text + "\n")
    for name in (".gitignore", "lock"):
        (directory / name).unlink()
    found = sorted(file.name for file in directory.iterdir())
    wanted = ["contents.json", "database.sqlite", "start.json", "value-key"]
    must(found == wanted, "the directory has four files", found)


def main(*arguments):
    only_check = arguments[:1] == ("--check",)
    tokenry, directory = arguments[only_check:]
    if not only_check:
        create(tokenry, pathlib.Path(directory))
    check(tokenry, pathlib.Path(directory))


main(*sys.argv[1:])
