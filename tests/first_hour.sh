#!/usr/bin/env bash
# Does what a newcomer does in the first hour, and prints the time of each step: clones the
# repository, builds and runs the server, mints and introspects a token, logs in, revokes the token,
# restarts the server, tries to start another server on the same port, and upgrades the data of
# earlier releases.
#
# The script clones the last commit of this repository. Without CARGO_TARGET_DIR, it compiles
# everything. Requires a Rust toolchain, a C compiler, git and curl.
source "$(dirname "$0")/../.ci/setup.sh"

REPOSITORY=$PWD
WORK=$(mktemp -d)
SERVER=
stop() {
  [[ -n $SERVER ]] || return 0
  kill -TERM "$SERVER"
  local server=$SERVER
  SERVER=
  wait "$server"
}
trap '[[ -z $SERVER ]] || kill "$SERVER" 2>/dev/null || :; rm -rf "$WORK"' EXIT

# did STEP: prints the time since the last step ended.
LAST=$EPOCHREALTIME
did() {
  local now=$EPOCHREALTIME
  printf '%9.2f s  %s\n' "$(((${now/./} - ${LAST/./}) / 10000))e-2" "$1"
  LAST=$now
}
fail() { echo "failed: $*" >&2; exit 1; }

# field NAME: reads JSON, and prints the value of a field.
field() { sed -nE "s/.*\"$1\":\"?([^\",}]*).*/\1/p"; }
# ask METHOD PATH [TOKEN [OPTION…]]: sends a request, and prints the body of the response. Fails if the
# status is 400 or higher.
ask() { curl -sS --fail-with-body --max-time 30 -X "$1" ${3:+-H "Authorization: Bearer $3"} "${@:4}" "$URL$2"; }
# send_json METHOD PATH TOKEN BODY: sends a request with a JSON body.
send_json() { ask "$1" "$2" "$3" -H 'Content-Type: application/json' -d "$4"; }
# is_active TOKEN: introspects a token, and prints true or false.
is_active() { ask POST /api/auth/introspect "$ACCOUNT_TOKEN" --data-urlencode "token=$1" | field active; }

# serve DIR: starts the server on a data directory, and waits for its line.
serve() {
  coproc OUTPUT { exec cargo run --quiet --locked -- serve --data "$1" --port 0 --json 2>>"$WORK/log"; }
  SERVER=$OUTPUT_PID
  local line
  read -r line <&"${OUTPUT[0]}" || { cat "$WORK/log" >&2; fail "the server on $1 does not start"; }
  URL=$(field url <<<"$line")
  ACCOUNT_TOKEN=$(field accountToken <<<"$line")
  ECOSYSTEM_ID=$(field ecosystemId <<<"$line")
  USER_ID=$(field userId <<<"$line")
}

git clone --quiet "$REPOSITORY" "$WORK/tokenry"
cd "$WORK/tokenry"
did "clone the repository"

cargo build --quiet --locked
did "build the command"

serve "$WORK/data"
did "run the server"

MINTED=$(ask POST "/api/users/$USER_ID/tokens?ttl=3600" "$ACCOUNT_TOKEN")
TOKEN=$(field token <<<"$MINTED")
[[ $TOKEN == tk_uf_* ]] || fail "the server does not mint a token: $MINTED"
did "mint a token"

[[ $(is_active "$TOKEN") == true ]] || fail "the new token is not active"
did "introspect the token"

BOB='{"email":"bob@example.com","password":"correct horse battery"}'
send_json PUT "/api/users/$ECOSYSTEM_ID;bob" "$ACCOUNT_TOKEN" "$BOB" >/dev/null
LOGGED_IN=$(send_json POST /api/auth/sessions "" "$BOB" | field token)
[[ $(is_active "$LOGGED_IN") == true ]] || fail "the token of the log-in is not active"
did "create a user and log in"

SECOND=$(ask POST "/api/users/$USER_ID/tokens?ttl=3600" "$ACCOUNT_TOKEN" | field token)
ask POST /api/auth/revoke "" --data-urlencode "token=$SECOND" >/dev/null
[[ $(is_active "$SECOND") == false ]] || fail "the revoked token is active"
did "revoke a token"

stop || fail "the server ends with the exit code $?"
BEFORE=$ACCOUNT_TOKEN
serve "$WORK/data"
[[ $ACCOUNT_TOKEN == "$BEFORE" ]] || fail "the account token has changed"
[[ $(is_active "$TOKEN") == true && $(is_active "$SECOND") == false ]] || fail "the restart changed a token"
did "restart the server, and verify the token"

if cargo run --quiet --locked -- serve --memory --port "${URL##*:}" 2>"$WORK/refused"; then
  fail "two servers use one port"
fi
grep -q -- '--port 0' "$WORK/refused" || fail "the error names no next step: $(cat "$WORK/refused")"
did "try the port that is in use"

stop || fail "the server ends with the exit code $?"
for fixture in tests/fixtures/schema-*; do
  cp -r "$fixture" "$WORK/${fixture##*/}"
  serve "$WORK/${fixture##*/}"
  TOKEN=$(ask POST "/api/users/$USER_ID/tokens" "$ACCOUNT_TOKEN" | field token)
  [[ $USER_ID == "$(field userId <"$fixture/start.json")" ]] || fail "the user has changed"
  [[ $(is_active "$TOKEN") == true ]] || fail "the new token is not active"
  stop || fail "the server ends with the exit code $?"
  did "upgrade ${fixture##*/}"
done
