#!/usr/bin/env bash
# Says whether a deployment works: mints a token for a user, asks whether it counts, revokes it, and asks again.
#
#     TOKENRY_TOKEN=tk_… smoke.sh URL USER
#
# The token is an account's, or a server's of the ecosystem that USER (`ECOSYSTEM;NAME`) is in. The user is made if it
# is not there. What the run mints ends with it, or within a minute.
set -euo pipefail
url=${1%/} user=$2

# call METHOD PATH [ARGUMENT…]: prints the answer; another status than 2xx ends the run.
call() {
  curl --silent --show-error --fail-with-body --max-time 10 --request "$1" "${@:3}" \
    --config <(printf 'header = "Authorization: Bearer %s"\n' "$TOKENRY_TOKEN") "$url$2"
}

# introspect: asks about the minted token.
introspect() { printf %s "$token" | call POST /api/auth/introspect --data-urlencode token@-; }

# must CLAIM COMMAND…: says what holds; ends the run at the first claim that does not.
must() {
  if "${@:2}"; then echo "ok: $1"; else echo "this does not hold: $1" >&2 && exit 1; fi
}

call PUT "/api/users/$user" --header 'Content-Type: application/json' --data '{}' >/dev/null
minted=$(call POST "/api/users/$user/tokens?ttl=60&name=smoke")
token=$(sed -E 's/.*"token":"([^"]*)".*/\1/' <<<"$minted")
must "a token is minted" [ "${token:0:6}" = tk_uf_ ]

claims=$(introspect)
must "it counts" [ "${claims:0:15}" = '{"active":true,' ]
must "it is the user's" grep -qF "\"sub\":\"$user\"" <<<"$claims"

printf %s "$token" | call POST /api/auth/revoke --data-urlencode token@-
must "revoked, it counts no more" [ "$(introspect)" = '{"active":false}' ]

status=$(curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}' \
  --request POST "$url/api/users/$user/tokens")
must "who shows no token gets none" [ "$status" = 401 ]
