#!/usr/bin/env bash
# Runs the whole template under `sam local start-api`: makes an account, an ecosystem and a user there, mints a
# token, and asks whether it holds, until it is revoked.
#
# It needs a Rust toolchain, Python 3 and root on Debian or a like of it, whose packages it installs if they are
# missing, and ends with 77 and a line that says why where that is not so. The functions run in a Docker engine of
# its own, in namespaces of its own: no process, mount, network or file of it outlives the script, however that ends.
source "$(dirname "$0")/../.ci/setup.sh"

say() { printf 'sam local: %s\n' "$*"; }
cannot() { say "cannot run here: $*"; exit 77; }
fail() { say "this does not hold: $*" >&2; exit 1; }
# The same, with the end of what SAM and the functions logged.
broken() { tail -n 40 /run/sam.log >&2; fail "$@"; }

VENV=$PWD/target/venv/aws
BUILT=.aws-sam/build
# In a network of its own any address and port is free.
HERE=10.0.0.1
DATABASE=http://$HERE:4566
API=http://127.0.0.1:3000
[[ $ARCHITECTURE =~ ^(x86_64|arm64)$ ]] || cannot "Lambda knows no $ARCHITECTURE"
export PATH=$VENV/bin:$PATH
export AWS_REGION=eu-central-1 AWS_DEFAULT_REGION=eu-central-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test

# What the namespaces are entered with: packages, the functions as they are deployed, the command.
prepare() {
  if ! command -v dockerd >/dev/null || ! command -v busybox >/dev/null; then
    command -v apt-get >/dev/null || cannot "there is no apt-get to install docker.io and busybox-static"
    apt-get update -qq
    local packages=()
    command -v busybox >/dev/null || packages+=(busybox-static)
    if ! command -v dockerd >/dev/null; then
      packages+=(docker.io)
      # Newer releases have the client apart.
      if apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
    fi
    # The run level keeps the packages from starting a daemon.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  fi
  venv aws
  build_all_binaries
}

# The base image under the name that SAM asks for, with the little of it that a function needs. The image says where
# the database is, because SAM passes no variable that the template does not name.
import_image() {
  local root=/run/root applet
  mkdir -p $root/{bin,tmp,var/task}
  cp "$(command -v busybox)" $root/bin/busybox
  for applet in chmod mv sh true; do ln -s busybox "$root/bin/$applet"; done
  # `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`
  ldd $BUILT/IntrospectToken/bootstrap | grep -o '/[^ ]*' | xargs cp -L --parents -t $root
  tar -C $root -c . | docker import --change "ENV AWS_ENDPOINT_URL=$DATABASE" - "$1" >/dev/null
}

# start NAME COMMAND...: runs it in the background, with a log that `wait_for` shows.
start() {
  local name=$1
  shift
  "$@" >"/run/$name.log" 2>&1 &
}

# wait_for NAME COMMAND...: returns once the command succeeds; false after a minute, with the end of NAME's log.
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

# call STATUS METHOD PATH [CURL'S ARGUMENTS]: prints the body of the answer, whose status must be as said.
call() {
  local status=$1 method=$2 path=$3 answer
  shift 3
  answer=$(curl -sS --max-time 60 -X "$method" -H "Authorization: $ACCOUNT_TOKEN" -w '\n%{http_code}' "$@" "$API$path")
  [[ ${answer##*$'\n'} == "$status" ]] || broken "$method ${path%%\?*} answers $status, and not ${answer##*$'\n'}"
  say "$method ${path%%/C*} answers $status" >&2
  printf '%s' "${answer%$'\n'*}"
}

# field NAME: that field of the JSON that comes in.
field() { sed -nE "s/.*\"$1\":\"([^\"]*)\".*/\1/p"; }

introspect() { call 200 POST /api/auth/introspect --data-urlencode "token=$1"; }

# Inside the namespaces.
run() {
  # Docker's, SAM's and everyone's files: gone with the namespace.
  mount -t tmpfs tmpfs /run
  mkdir /run/home /run/tmp
  export HOME=/run/home TMPDIR=/run/tmp DOCKER_HOST=unix:///run/docker.sock
  busybox ip link set lo up

  printf '{}' >/run/daemon.json
  # Published ports go through Docker's own proxy, so that no packet filter is needed.
  start dockerd dockerd --config-file /run/daemon.json --host $DOCKER_HOST --data-root /run/docker-data \
    --exec-root /run/docker --pidfile /run/docker.pid --exec-opt native.cgroupdriver=cgroupfs \
    --cgroup-parent "$CGROUP" --bip $HERE/24 --iptables=false --ip6tables=false
  wait_for dockerd docker info || cannot "no Docker engine starts"
  local image=public.ecr.aws/lambda/provided:al2023-$ARCHITECTURE
  import_image "$image"
  docker run --rm "$image" true || cannot "the Docker engine runs no container"

  SERVICES=dynamodb BIND_HOST=$HERE GATEWAY_PORT=${DATABASE##*:} start ministack python -m ministack
  # Its first answer takes longer than the command waits.
  wait_for ministack curl -sSf -H 'X-Amz-Target: DynamoDB_20120810.ListTables' -d '{}' $DATABASE \
    || fail "the database starts"
  # SAM gives the functions the tables' logical ids.
  ACCOUNT_TOKEN=$(AWS_ENDPOINT_URL=$DATABASE TOKENRY_IDENTITY_TABLE=IdentityTable \
    TOKENRY_EPHEMERAL_TABLE=EphemeralTable target/debug/tokenry bootstrap --create-tables --json | field accountToken)

  start sam sam local start-api --skip-pull-image --warm-containers LAZY --no-watch \
    --parameter-overrides "Architecture=$ARCHITECTURE"
  wait_for sam curl -sS $API || fail "sam local start-api starts"
  # `Mounting CreateUserToken at http://127.0.0.1:3000/api/users/{id}/tokens [POST]`: each one starts, and itself
  # refuses who shows no credential.
  local functions=0 url method answer
  while read -r url method; do
    answer=$(curl -sS --globoff --max-time 60 -o /dev/null -w '%{http_code} %header{x-request-id}' -X "$method" "$url")
    [[ $answer == 4??\ ?* ]] || broken "$method ${url#"$API"} is answered by its function, and not with $answer"
    functions=$((functions + 1))
  done < <(sed -nE 's/^Mounting .* at (.*) \[(.*)\]$/\1 \2/p' /run/sam.log)
  [[ $functions == "$(grep -c 'Type: HttpApi$' template.yaml)" ]] || broken "SAM mounts all functions, not $functions"
  say "$functions functions start and answer"

  local ecosystem user minted token
  ecosystem=$(call 201 POST /api/ecosystems | field id)
  user="$ecosystem;auth0%7Cann"
  call 201 PUT "/api/users/$user" -H 'Content-Type: application/json' -d '{}' >/dev/null
  minted=$(call 200 POST "/api/users/$user/tokens?expiryType=SlidingTtl&ttl=900")
  token=$(field token <<<"$minted")
  answer=$(introspect "$token")
  [[ $answer == *'"active":true'* && $answer == *"\"sub\":\"$ecosystem;auth0|ann\""* ]] || broken "the token holds"
  call 204 DELETE "/api/users/$user/tokens/$(field tokenId <<<"$minted")" >/dev/null
  [[ $(introspect "$token") == '{"active":false}' ]] || broken "a revoked token holds no more"
  say "a token was minted, held, was revoked, and holds no more"
}

if [[ ${1-} == inside ]]; then
  run
  exit
fi
[[ $(id -u) == 0 ]] || cannot "a Docker engine needs root"
NAMESPACES=(unshare --mount --net --pid --fork --kill-child --mount-proc)
"${NAMESPACES[@]}" true || cannot "there are no namespaces to be had"
prepare
export CGROUP=/tokenry-sam-local-$$
# With the first process of the namespaces all others end; the control groups of the containers remain, empty, a moment
# later.
finish() {
  kill -KILL "$INSIDE" 2>/dev/null || true
  for _ in {1..50}; do
    if find /sys/fs/cgroup -depth -type d -path "*$CGROUP*" -exec rmdir {} + 2>/dev/null; then return; fi
    sleep 0.1
  done
}
# The namespaces do not outlive this process either.
setpriv --pdeathsig KILL "${NAMESPACES[@]}" "$0" inside &
INSIDE=$!
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
wait "$INSIDE"
