#!/usr/bin/env bash
# Runs the whole template under `sam local start-api`. Creates an account, an ecosystem and a user,
# mints a token, and introspects it before and after its revocation.
#
# Requires a Rust toolchain, Python 3, and root on Debian or a derivative. Installs missing
# packages. If the script cannot run, it prints the reason and exits with 77. The functions run in a
# separate Docker engine in separate namespaces. After the script ends for any reason, no process,
# mount, network or file of this engine remains.
source "$(dirname "$0")/../.ci/setup.sh"

say() { printf 'sam local: %s\n' "$*"; }
cannot() { say "cannot run here: $*"; exit 77; }
fail() { say "failed: $*" >&2; exit 1; }
# Prints the end of the log of SAM and the functions, then fails.
broken() { tail -n 40 /run/sam.log >&2; fail "$@"; }

VENV=$PWD/target/venv/aws
BUILT=.aws-sam/build
# In the new network namespace, no IP address or port is in use.
HERE=10.0.0.1
DATABASE=http://$HERE:4566
API=http://127.0.0.1:3000
[[ $ARCHITECTURE =~ ^(x86_64|arm64)$ ]] || cannot "Lambda does not support $ARCHITECTURE"
export PATH=$VENV/bin:$PATH
export AWS_REGION=eu-central-1 AWS_DEFAULT_REGION=eu-central-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test

# Installs the packages. Builds the functions for deployment, and the `tokenry` command. Runs
# outside the namespaces.
prepare() {
  if ! command -v dockerd >/dev/null || ! command -v busybox >/dev/null; then
    command -v apt-get >/dev/null || cannot "there is no apt-get to install docker.io and busybox-static"
    apt-get update -qq
    local packages=()
    command -v busybox >/dev/null || packages+=(busybox-static)
    if ! command -v dockerd >/dev/null; then
      packages+=(docker.io)
      # In newer releases, the client is a separate package.
      if apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
    fi
    # At run level 1, the packages do not start a daemon.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  fi
  venv aws
  build_all_binaries
}

# Imports a base image under the name that SAM expects. The image contains only the files that a
# function needs. The image also sets the URL of the database, because SAM sets only the variables
# that the template contains.
import_image() {
  local root=/run/root applet
  mkdir -p $root/{bin,tmp,var/task}
  cp "$(command -v busybox)" $root/bin/busybox
  for applet in chmod mv sh true; do ln -s busybox "$root/bin/$applet"; done
  # `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`
  ldd $BUILT/IntrospectToken/bootstrap | grep -o '/[^ ]*' | xargs cp -L --parents -t $root
  tar -C $root -c . | docker import --change "ENV AWS_ENDPOINT_URL=$DATABASE" - "$1" >/dev/null
}

# start NAME COMMAND...: runs the command in the background. Its log is /run/NAME.log.
start() {
  local name=$1
  shift
  "$@" >"/run/$name.log" 2>&1 &
}

# wait_for NAME COMMAND...: repeats the command until it succeeds. After a minute, prints the end of
# NAME's log and fails.
wait_for() {
  local name=$1
  shift
  for _ in {1..300}; do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.2
  done
  tail -n 20 "/run/$name.log" >&2
  return 1
}

# call STATUS METHOD PATH [CURL'S ARGUMENTS]: sends a request and prints the response's body. Fails
# if the response has a different status.
call() {
  local status=$1 method=$2 path=$3 answer
  shift 3
  answer=$(curl -sS --max-time 60 -X "$method" -H "Authorization: $ACCOUNT_TOKEN" -w '\n%{http_code}' "$@" "$API$path")
  [[ ${answer##*$'\n'} == "$status" ]] || broken "$method ${path%%\?*} must answer $status, but answers ${answer##*$'\n'}"
  say "$method ${path%%/C*} answers $status" >&2
  printf '%s' "${answer%$'\n'*}"
}

# field NAME: prints the string field NAME of the JSON in the input.
field() { sed -nE "s/.*\"$1\":\"([^\"]*)\".*/\1/p"; }

introspect() { call 200 POST /api/auth/introspect --data-urlencode "token=$1"; }

# Runs the checks inside the namespaces.
run() {
  # Docker, SAM and this script write all their files to /run. The files disappear when the
  # namespace ends.
  mount -t tmpfs tmpfs /run
  mkdir /run/home /run/tmp
  export HOME=/run/home TMPDIR=/run/tmp DOCKER_HOST=unix:///run/docker.sock
  busybox ip link set lo up

  printf '{}' >/run/daemon.json
  # Docker's own proxy forwards published ports, so no packet filter is needed.
  start dockerd dockerd --config-file /run/daemon.json --host $DOCKER_HOST --data-root /run/docker-data \
    --exec-root /run/docker --pidfile /run/docker.pid --exec-opt native.cgroupdriver=cgroupfs \
    --cgroup-parent "$CGROUP" --bip $HERE/24 --iptables=false --ip6tables=false
  wait_for dockerd docker info || cannot "the Docker engine does not start"
  local image=public.ecr.aws/lambda/provided:al2023-$ARCHITECTURE
  import_image "$image"
  docker run --rm "$image" true || cannot "the Docker engine cannot run a container"

  SERVICES=dynamodb BIND_HOST=$HERE GATEWAY_PORT=${DATABASE##*:} start ministack python -m ministack
  # Wait for the database here: its first response takes longer than `tokenry bootstrap` waits.
  wait_for ministack curl -sSf -H 'X-Amz-Target: DynamoDB_20120810.ListTables' -d '{}' $DATABASE \
    || fail "the database does not start"
  # SAM sets the functions' table names to the logical ids of the tables.
  ACCOUNT_TOKEN=$(AWS_ENDPOINT_URL=$DATABASE TOKENRY_IDENTITY_TABLE=IdentityTable \
    TOKENRY_EPHEMERAL_TABLE=EphemeralTable target/debug/tokenry bootstrap --create-tables --json | field accountToken)

  start sam sam local start-api --skip-pull-image --warm-containers LAZY --no-watch \
    --parameter-overrides "Architecture=$ARCHITECTURE"
  wait_for sam curl -sS $API || fail "sam local start-api does not start"
  # The log has a line for each function, with its methods:
  # `Mounting CreateUserToken at http://127.0.0.1:3000/api/users/{id}/tokens [POST]`. Each function
  # must start, and must answer 4xx to a request without a credential and without a body. A response
  # with an `x-request-id` comes from the function.
  local functions=0 url method answer
  while read -r url method; do
    answer=$(curl -sS --globoff --max-time 60 -o /dev/null -w '%{http_code} %header{x-request-id}' -X "${method%%,*}" "$url")
    # `metadata` needs no credential and no body.
    [[ $answer == 4??\ ?* || $url == */.well-known/* && $answer == 200\ ?* ]] || broken "the function of $method ${url#"$API"} must answer, but the response is $answer"
    functions=$((functions + 1))
  done < <(sed -nE 's/^Mounting .* at (.*) \[(.*)\]$/\1 \2/p' /run/sam.log)
  [[ $functions == "$(grep -c '^        Route:$' template.yaml)" ]] || broken "SAM must mount every function, but mounts $functions"
  say "$functions functions start and answer"

  local ecosystem user minted token
  ecosystem=$(call 201 POST /api/ecosystems | field id)
  user="$ecosystem;auth0%7Cann"
  call 201 PUT "/api/users/$user" -H 'Content-Type: application/json' -d '{}' >/dev/null
  minted=$(call 200 POST "/api/users/$user/tokens?expiryType=SlidingTtl&ttl=900")
  token=$(field token <<<"$minted")
  answer=$(introspect "$token")
  [[ $answer == *'"active":true'* && $answer == *"\"sub\":\"$ecosystem;auth0|ann\""* ]] || broken "the token is not active"
  call 204 DELETE "/api/users/$user/tokens/$(field tokenId <<<"$minted")" >/dev/null
  [[ $(introspect "$token") == '{"active":false}' ]] || broken "the revoked token is still active"
  say "the token is active before its revocation and inactive after it"
}

if [[ ${1-} == inside ]]; then
  run
  exit
fi
[[ $(id -u) == 0 ]] || cannot "the Docker engine needs root"
NAMESPACES=(unshare --mount --net --pid --fork --kill-child --mount-proc)
"${NAMESPACES[@]}" true || cannot "namespaces cannot be created"
prepare
export CGROUP=/tokenry-sam-local-$$
# When the first process in the namespaces ends, all other processes in the namespaces end. The
# empty control groups of the containers remain, and can be removed a moment later.
finish() {
  kill -KILL "$INSIDE" 2>/dev/null || true
  for _ in {1..50}; do
    if find /sys/fs/cgroup -depth -type d -path "*$CGROUP*" -exec rmdir {} + 2>/dev/null; then return; fi
    sleep 0.1
  done
}
# The namespaces also end if this process is killed.
setpriv --pdeathsig KILL "${NAMESPACES[@]}" "$0" inside &
INSIDE=$!
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
wait "$INSIDE"
