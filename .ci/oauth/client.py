"""Runs Python's OAuth clients, unmodified, against Tokenry. `.ci/oauth_clients.py` starts this program.

ISSUER is the address of Tokenry, CLIENT_ID an ecosystem, CLIENT_SECRET a server token of it, USER_ID a
user, READER a token of the user with the scope `read`, TOKENS valid tokens of the user with the scopes
`read` and `write`, and FOREIGN a token of another ecosystem.
"""

import asyncio
import os

import django
import requests
from authlib.integrations.requests_client import OAuth2Session
from django.conf import settings
from fastmcp.server.auth.providers.introspection import IntrospectionTokenVerifier
from oauthlib.oauth2 import WebApplicationClient
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session as OauthlibSession

ISSUER, CLIENT_ID, CLIENT_SECRET, USER_ID, READER, FOREIGN = (
    os.environ[name] for name in ("ISSUER", "CLIENT_ID", "CLIENT_SECRET", "USER_ID", "READER", "FOREIGN")
)
TOKENS = iter(os.environ["TOKENS"].split())
METADATA = requests.get(f"{ISSUER}/.well-known/oauth-authorization-server", timeout=20).json()
INTROSPECT, REVOKE = METADATA["introspection_endpoint"], METADATA["revocation_endpoint"]


def revoke_directly(token):
    requests.post(REVOKE, {"token": token}, timeout=20).raise_for_status()


def check(name, introspect, revoke=revoke_directly):
    """`introspect` returns the claims of a valid token, and None or `{"active":false}` for any other token."""
    token = next(TOKENS)
    claims = introspect(token)
    assert claims["active"] is True and claims["sub"] == claims["username"] == USER_ID, claims
    assert set(claims["scope"].split()) == {"read", "write"}, claims
    assert introspect(FOREIGN) in (None, {"active": False}), "the token of another ecosystem is inactive"
    revoke(token)
    assert introspect(token) in (None, {"active": False}), "a revoked token is inactive"
    print(f"ok: {name}", flush=True)


def authlib():
    for method in ("client_secret_basic", "client_secret_post"):
        session = OAuth2Session(
            CLIENT_ID,
            CLIENT_SECRET,
            token_endpoint_auth_method=method,
            revocation_endpoint_auth_method=method,
        )

        def introspect(token):
            response = session.introspect_token(INTROSPECT, token, token_type_hint="access_token")
            response.raise_for_status()
            return response.json()

        def revoke(token):
            response = session.revoke_token(REVOKE, token, token_type_hint="access_token")
            assert response.status_code == 200, response.text

        check(f"Authlib, {method}", introspect, revoke)

    # A public client sends its id, and no secret.
    public = OAuth2Session(CLIENT_ID, token_endpoint_auth_method="none", revocation_endpoint_auth_method="none")
    check("Authlib, public client", introspect, lambda token: public.revoke_token(REVOKE, token).raise_for_status())
    wrong = OAuth2Session(CLIENT_ID, "wrong").introspect_token(INTROSPECT, READER)
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client"), wrong.text
    assert wrong.headers["WWW-Authenticate"].startswith("Basic "), wrong.headers


def requests_oauthlib():
    basic = HTTPBasicAuth(CLIENT_ID, CLIENT_SECRET)
    bearer = {"access_token": CLIENT_SECRET, "token_type": "Bearer"}
    for name, auth, own in [("Basic", basic, None), ("Bearer", None, bearer)]:
        client = WebApplicationClient(CLIENT_ID)
        session = OauthlibSession(client=client, token=own)

        def introspect(token):
            response = session.post(INTROSPECT, data={"token": token}, auth=auth)
            response.raise_for_status()
            return response.json()

        def revoke(token):
            url, headers, body = client.prepare_token_revocation_request(REVOKE, token)
            session.post(url, headers=headers, data=body, auth=auth).raise_for_status()

        check(f"requests-oauthlib, {name}", introspect, revoke)


def fastmcp():
    for method in ("client_secret_basic", "client_secret_post"):
        client = {
            "introspection_url": INTROSPECT,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "client_auth_method": method,
        }
        verifier = IntrospectionTokenVerifier(**client)
        writers = IntrospectionTokenVerifier(**client, required_scopes=["write"])

        def introspect(token):
            verified = asyncio.run(verifier.verify_token(token))
            return verified and verified.claims

        check(f"fastmcp, {method}", introspect)
        assert introspect(READER)["scope"] == "read"
        assert asyncio.run(writers.verify_token(READER)) is None, "a token without the scope is rejected"


def orders(request):
    return django.http.JsonResponse({"user": request.resource_owner.username})


def django_oauth_toolkit():
    """A Django site that accepts Tokenry's tokens: once with Basic, once with a bearer token."""
    settings.configure(
        ALLOWED_HOSTS=["testserver"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
        OAUTH2_PROVIDER={},
        ROOT_URLCONF=__name__,
        SECRET_KEY="not used",
        USE_TZ=True,
    )
    django.setup()
    from django.core.management import call_command
    from django.test import Client, override_settings
    from django.urls import path
    from oauth2_provider.decorators import protected_resource

    urlpatterns.extend(path(scope, protected_resource(scopes=[scope])(orders)) for scope in ("read", "write"))
    call_command("migrate", verbosity=0)
    client = Client()

    def get(scope, token):
        return client.get(f"/{scope}", headers={"Authorization": f"Bearer {token}"})

    for name, credential in {
        "Basic": {"RESOURCE_SERVER_INTROSPECTION_CREDENTIALS": (CLIENT_ID, CLIENT_SECRET)},
        "Bearer": {"RESOURCE_SERVER_AUTH_TOKEN": CLIENT_SECRET},
    }.items():
        # The toolkit caches a response for this time, by default for 10 hours. With 0, it accepts no token.
        server = {"RESOURCE_SERVER_INTROSPECTION_URL": INTROSPECT, "RESOURCE_SERVER_TOKEN_CACHING_SECONDS": 1}
        with override_settings(OAUTH2_PROVIDER=server | credential):
            token = next(TOKENS)
            for scope in ("read", "write"):
                response = get(scope, token)
                assert (response.status_code, response.json()) == (200, {"user": USER_ID}), response.content
            assert get("read", READER).status_code == 200
            assert get("write", READER).status_code == 403
            assert get("read", FOREIGN).status_code == 403
            assert client.get("/read").status_code == 403
            revoke_directly(token)
            forget()
            assert get("read", token).status_code == 403
        print(f"ok: django-oauth-toolkit, {name}", flush=True)


urlpatterns = []


def forget():
    """Lets all responses in the toolkit's cache expire a second earlier, so that the test does not wait."""
    from datetime import timedelta

    from django.db.models import F
    from oauth2_provider.models import get_access_token_model

    tokens = get_access_token_model().objects
    longest = max(tokens.values_list("expires", flat=True))
    assert longest <= django.utils.timezone.now() + timedelta(seconds=1), "the toolkit caches a response for at most a second"
    tokens.update(expires=F("expires") - timedelta(seconds=1))


for client in (authlib, requests_oauthlib, fastmcp, django_oauth_toolkit):
    client()
