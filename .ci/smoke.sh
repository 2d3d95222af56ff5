#!/usr/bin/env bash
# Checks that a deployment works: mints a token for a user, introspects it, revokes it, and
# introspects it again.
#
#     TOKENRY_TOKEN=tk_… smoke.sh URL USER
#
# TOKENRY_TOKEN is an account token, or a server token of the ecosystem of USER (`ECOSYSTEM;NAME`).
# The script creates the user if the user does not exist. If the script fails before it revokes the
# minted token, the token expires a minute after it was minted.
set -euo pipefail
url=${1%/} user=$2

# call METHOD PATH [ARGUMENT…]: sends a request and prints the response's body. Fails if the
# response's status is 400 or higher.
call() {
  curl --silent --show-error --fail-with-body --max-time 10 --request "$1" "${@:3}" \
    --config <(printf 'header = "Authorization: Bearer %s"\n' "$TOKENRY_TOKEN") "$url$2"
}

# introspect: introspects the minted token.
introspect() { printf %s "$token" | call POST /api/auth/introspect --data-urlencode token@-; }

# must STATEMENT COMMAND…: prints the statement. If the command fails, ends the script with an
# error.
must() {
  if "${@:2}"; then echo "ok: $1"; else echo "failed: $1" >&2 && exit 1; fi
}

call PUT "/api/users/$user" --header 'Content-Type: application/json' --data '{}' >/dev/null
minted=$(call POST "/api/users/$user/tokens?ttl=60&name=smoke")
token=$(sed -E 's/.*"token":"([^"]*)".*/\1/' <<<"$minted")
must "a token is minted" [ "${token:0:6}" = tk_uf_ ]

claims=$(introspect)
must "the minted token is active" [ "${claims:0:15}" = '{"active":true,' ]
must "the minted token belongs to the user" grep -qF "\"sub\":\"$user\"" <<<"$claims"

printf %s "$token" | call POST /api/auth/revoke --data-urlencode token@- >/dev/null
must "the minted token is inactive after its revocation" [ "$(introspect)" = '{"active":false}' ]

status=$(curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}' \
  --request POST "$url/api/users/$user/tokens")
must "a request without a token is rejected" [ "$status" = 401 ]
