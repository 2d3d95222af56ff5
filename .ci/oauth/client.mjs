// Runs JavaScript's OAuth clients, unmodified, against Tokenry. See client.py for the variables.
import assert from "node:assert/strict";
import * as oauth from "oauth4webapi";
import * as openid from "openid-client";
import tokenIntrospection from "token-introspection";

const { ISSUER, CLIENT_ID, CLIENT_SECRET, USER_ID, FOREIGN } = process.env;
const tokens = process.env.TOKENS.split(" ");
const issuer = new URL(ISSUER);
const inactive = { active: false };

async function check(name, introspect, revoke) {
  const token = tokens.pop();
  const claims = await introspect(token);
  assert.equal(claims.active, true);
  assert.equal(claims.sub, USER_ID);
  assert.equal(claims.username, USER_ID);
  assert.deepEqual(claims.scope.split(" ").sort(), ["read", "write"]);
  assert.deepEqual(await introspect(FOREIGN), inactive);
  await revoke(token);
  assert.deepEqual(await introspect(token), inactive);
  console.log(`ok: ${name}`);
}

for (const method of ["ClientSecretBasic", "ClientSecretPost"]) {
  const authentication = openid[method](CLIENT_SECRET);
  const config = await openid.discovery(issuer, CLIENT_ID, undefined, authentication, { algorithm: "oauth2" });
  await check(
    `openid-client, ${method}`,
    (token) => openid.tokenIntrospection(config, token, { token_type_hint: "access_token" }),
    (token) => openid.tokenRevocation(config, token, { token_type_hint: "access_token" }),
  );
}

const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: "oauth2" }));
const client = { client_id: CLIENT_ID };
const methods = {
  ClientSecretBasic: oauth.ClientSecretBasic(CLIENT_SECRET),
  ClientSecretPost: oauth.ClientSecretPost(CLIENT_SECRET),
};
const introspect = async (authentication, token) =>
  oauth.processIntrospectionResponse(server, client, await oauth.introspectionRequest(server, client, authentication, token));
const revoke = async (authentication, token) =>
  oauth.processRevocationResponse(await oauth.revocationRequest(server, client, authentication, token));
for (const [method, authentication] of Object.entries(methods)) {
  await check(
    `oauth4webapi, ${method}`,
    (token) => introspect(authentication, token),
    (token) => revoke(authentication, token),
  );
}
await check(
  "oauth4webapi, public client",
  (token) => introspect(methods.ClientSecretBasic, token),
  (token) => revoke(oauth.None(), token),
);
// A client with a wrong secret gets the error and the challenge that RFC 6749 requires.
await assert.rejects(introspect(oauth.ClientSecretBasic("wrong"), FOREIGN), (error) => {
  assert.equal(error.name, "WWWAuthenticateChallengeError");
  assert.equal(error.status, 401);
  assert.equal(error.cause[0].scheme, "basic");
  return true;
});

const endpoint = server.introspection_endpoint;
for (const [name, credential] of Object.entries({
  "client credentials": { client_id: CLIENT_ID, client_secret: CLIENT_SECRET },
  "access token": { access_token: CLIENT_SECRET },
})) {
  const ask = tokenIntrospection({ endpoint, ...credential });
  await check(
    `token-introspection, ${name}`,
    (token) =>
      ask(token, "access_token").catch((error) => {
        assert(error instanceof tokenIntrospection.errors.TokenNotActiveError, error);
        return inactive;
      }),
    (token) => fetch(server.revocation_endpoint, { method: "POST", body: new URLSearchParams({ token }) }),
  );
}
