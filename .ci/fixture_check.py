"""Checks a data directory that fixture.py created. Also contains the API client of fixture.py."""

import calendar
import json
import math
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from serve import must, serving

# For each claim in the response to an introspection, the field of contents.json with that value.
CLAIMS = {"sub": "sub", "jti": "tokenId", "holder": "holder", "scope": "scope",
          "expiry_type": "expiryType", "environment_id": "environmentId"}
VALUE = "/_/user-token/value"
START = ("accountToken", "ecosystemId", "userId")


def text_of(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def seconds_of(text):
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def value_of(answer):
    return answer["data"][0]["token"]


class Api:
    """Sends requests to a server."""

    def __init__(self, url):
        self.url = url

    def send(self, token, method, path, body=None, query=None, form=None):
        """Returns the response's status and parsed body, or the text of a body that is not JSON."""
        url = self.url + urllib.parse.quote(path)
        url += "?" + urllib.parse.urlencode(query) if query else ""
        request = urllib.request.Request(url, method=method)
        if token:
            request.add_header("Authorization", token)
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        if form:
            request.data = urllib.parse.urlencode(form).encode()
        try:
            response = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            text = response.read().decode()
        try:
            return response.status, json.loads(text)
        except json.JSONDecodeError:
            return response.status, text

    def ok(self, *arguments, **more):
        """Sends a request that must succeed, and returns the response's body."""
        status, answer = self.send(*arguments, **more)
        if status >= 300:
            sys.exit(f"{arguments}: {status} {answer}")
        return answer

    def introspect(self, caller, token):
        return self.ok(caller, "POST", "/api/auth/introspect", form={"token": token})

    def log_in(self, user, email):
        """Logs in as a user with one of the spellings of the user's e-mail address."""
        body = {"email": email, "password": user["password"]}
        # Without an ecosystem id, only the users of the first account can log in.
        body |= {"ecosystemId": user["id"].split(";")[0]}
        return self.send(None, "POST", VALUE, body)

    def exchange(self, code):
        return self.send(None, "POST", "/api/auth/shortcode/consume", {"shortcode": code})


def check(tokenry, directory):
    contents = json.loads((directory / "contents.json").read_text())
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(directory, copy, dirs_exist_ok=True)
        with serving(tokenry, sys.stderr, copy) as server:
            first, api = contents["accounts"][0], Api(server["url"])
            same = all(server[field] == first[field] for field in START)
            must(same, "start.json contains the first account", server)
            keys = {each["id"]: each["accountToken"] for each in contents["accounts"]}
            check_tokens(api, keys, contents)
            check_users(api, keys, contents)
            check_email_tokens(api, keys, contents)
            check_codes(api, keys, contents)


def is_valid(item):
    """Returns whether a token or a short code is valid now."""
    end = item["expiresAt"]
    return item["active"] and (end is None or time.time() < seconds_of(end))


def check_tokens(api, keys, contents):
    for item in contents["tokens"] + contents["emailTokens"]:
        claims = api.introspect(keys[item["accountId"]], item["token"])
        wanted = {"active": False}
        if is_valid(item):
            wanted = {claim: item[field] for claim, field in CLAIMS.items() if item.get(field)}
            wanted |= {"active": True, "iat": claims.get("iat")}
            if item["expiresAt"]:
                end, seen = seconds_of(item["expiresAt"]), claims.get("exp", 0)
                # A use of a sliding token moves its expiry, but at most to `maxTtl` seconds after
                # the creation of the token.
                if item["expiryType"] == "SlidingTtl":
                    last = claims["iat"] + (item["maxTtl"] or math.inf)
                    end = min(max(end, seen), time.time() + item["ttl"], last)
                wanted["exp"] = end
            if item["holder"] != "account":
                wanted["ecosystem_id"] = item["sub"].split(";")[0]
        statement = f"this token has the expected claims: {item['about']}; active: {wanted['active']}"
        must(claims == wanted, statement, claims)
        for stranger in keys.keys() - {item["accountId"]}:
            claims = api.introspect(keys[stranger], item["token"])
            must(claims == {"active": False}, "for another account, the token is inactive", claims)


def check_users(api, keys, contents):
    deleted = {each["id"] for each in contents["ecosystems"] if not each["exists"]}
    tokens = [each for each in contents["tokens"] + contents["emailTokens"] if is_valid(each)]
    for user in contents["users"]:
        key, id = keys[user["accountId"]], user["id"]
        status, seen = api.send(key, "GET", f"/api/users/{id}")
        if user["exists"]:
            wanted = {field: user[field] for field in ("id", "email", "admin", "active")}
            must((status, seen) == (200, wanted), f"this user exists: {user['about']}", seen)
            listed = api.ok(key, "GET", f"/api/users/{id}/tokens")["tokens"]
            fields = ("tokenId", "name", "expiryType")
            seen, wanted = (sorted([each[field] for field in fields] for each in some)
                            for some in (listed, [each for each in tokens if each["sub"] == id]))
            must(seen == wanted, f"the list contains {len(wanted)} tokens of the user", seen)
        else:
            ecosystem = id.split(";")[0]
            gone = ecosystem in deleted
            missing = f"Ecosystem with id {ecosystem}" if gone else f"User with id {id}"
            wanted = 404, f"{missing} does not exist."
            must((status, seen) == wanted, f"this user does not exist: {user['about']}", seen)


def check_email_tokens(api, keys, contents):
    tokens = {each["sub"]: each for each in contents["emailTokens"] if each["exists"]}
    for account, key in keys.items():
        listed = api.ok(key, "GET", "/_/user-token")["data"]
        seen = {each["userId"]: each for each in listed}
        wanted = {id: each["record"] for id, each in tokens.items() if each["accountId"] == account}
        must(seen == wanted, f"the list contains {len(wanted)} e-mail tokens", seen)
    for user in contents["users"]:
        token = tokens.get(user["id"])
        stored, valid = token and token["token"], token and is_valid(token)
        for email in user["spellings"]:
            status, seen = api.send(keys[user["accountId"]], "GET", VALUE, query={"email": email})
            must(status == 200 and value_of(seen) == stored if stored else status == 404,
                 f"the API returns {'the' if stored else 'no'} value for {email}", seen)
            if user["password"]:
                status, seen = api.log_in(user, email)
                works = user["exists"] and user["active"]
                must(status == (200 if works else 401), f"a log-in with {email} gets {status}", seen)
                # If the user's e-mail token is not valid, the first log-in replaces it.
                if works:
                    same = value_of(seen) == stored
                    returned = "the stored token" if same else "a new token"
                    must(same == bool(valid), f"a log-in with {email} returns {returned}", seen)
                    stored, valid = value_of(seen), True
        for email in user.get("formerEmails", []):
            status, seen = api.log_in(user, email)
            must(status == 401, f"a log-in with {email} gets {status}", seen)


def check_codes(api, keys, contents):
    for environment in contents["environments"]:
        key, body = keys[environment["accountId"]], {"environmentId": environment["id"]}
        status, seen = api.send(key, "POST", "/api/auth/shortcode/create", body)
        wanted = 201 if environment["exists"] else 404
        statement = f"a new code for this environment gets {status}: {environment['about']}"
        must(status == wanted, statement, seen)
    codes = contents["shortcodes"]
    for code in filter(is_valid, codes):
        status, seen = api.exchange(code["shortcode"])
        good = status == 200 and seen["userId"] == code["userId"]
        must(good, f"the exchange of this code gets {status}: {code['about']}", seen)
    # The API allows five failed attempts from one source address. fixture.py made one of them.
    for code in [each for each in codes if not is_valid(each)][:4]:
        status, seen = api.exchange(code["shortcode"])
        must(status == 404, f"the exchange of this code gets {status}: {code['about']}", seen)
