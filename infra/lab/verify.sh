#!/usr/bin/env bash
# Builds and runs what infra/ and compose/ hold, as far as one machine with Docker can: every step is
# looked at from outside, and the first that is not as it must be ends it.
#
#   make lab                        all of it: 15 minutes on two cores
#   make lab PARTS="images swarm"   of images, compose, swarm and remote
#
# `remote` has a registry and an sshd on loopback in place of ECR and the EC2 host; it is left out where
# docker-registry, htpasswd or sshd are not installed (Debian: docker-registry, apache2-utils,
# openssh-server).
#
# Takes the ports 8080 and 8081, and those of compose.yaml; leaves images and nothing else behind.
# Needs a Docker with compose and buildx that is in no swarm, Chromium, curl and openssl; `make lab`
# brings the Python. DOCKER_BUILD_OPTIONS go to `docker build`.
set -euo pipefail
cd "$(dirname "$0")/../.."
lab=infra/lab

part() { printf '\n== %s\n' "$*"; }
ok() { printf '  ok  %-64s %4d s\n' "$*" "$SECONDS"; }
stop() { printf '  NOT AS IT MUST BE: %s\n' "$*" >&2; exit 1; }
silent() { "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2; stop "$*"; }; }
said() { grep -qF -- "$1" "$work/out" || stop "no word of '$1': $(cat "$work/out")"; }
within() { # seconds, command…: until it succeeds
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >"$work/out" 2>&1; do
    [ $SECONDS -lt $deadline ] || { cat "$work/out" >&2; stop "$*"; }
    sleep 1
  done
}
refused() { # what it must say, command…
  local words=$1
  shift
  ! "$@" >"$work/out" 2>&1 || stop "not refused: $*"
  said "$words"
}

for each in docker curl openssl python git; do
  command -v "$each" >/dev/null || stop "there is no $each"
done
docker info >/dev/null 2>&1 || stop "Docker does not answer"
for each in compose buildx; do
  docker "$each" version >/dev/null 2>&1 || stop "docker $each is not installed"
done
python -c 'import playwright, websockets' 2>/dev/null || stop "this Python lacks playwright: use make lab"
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || stop "there is no chromium"

work=$(mktemp -d)
export STATE=$work/state
cleaners=()
registry_pid="" sshd_pid=""
clean() {
  local cleaner
  for cleaner in "${cleaners[@]}"; do "$cleaner" >/dev/null 2>&1 || true; done
  rm -rf "$work"
}
trap clean EXIT

# Images

images() {
  part "images"
  infra/images/build | sed 's/^/      /'
  local image kind found
  for kind in master client; do
    image=usercast-$kind
    [ "$(inside "$image" id -u)" = 10001 ] || stop "$image is root"
    inside "$image" sh -c 'touch /tmp/file && ! touch /app/file 2>/dev/null' || stop "$image: not only /tmp can be written"
    # Each of these ends with an error if it cannot be asked, and that is no good answer.
    # shellcheck disable=SC2016  # The container's shell is to expand it.
    found=$(inside "$image" sh -c 'for each; do command -v "$each" || true; done' - gcc cc make git hatchling uv pip pip3)
    [ -z "$found" ] || stop "$image has $found"
    found=$(inside "$image" find /app /opt/venv -name tests -o -path '*usercast*' -name 'test*' -o -name '.git' -o -name '.env')
    [ -z "$found" ] || stop "$image has $found"
    found=$(docker history --no-trunc --format '{{.CreatedBy}}' "$image")
    ! grep -qiE 'password|secret_key=[^b]' <<<"$found" || stop "$image: a secret in its history"
    [ "$(inside "$image" sh -c 'TZ=Asia/Tokyo date +%Z')" = JST ] || stop "$image knows no time zones"
    ! docker run --rm "$image" nonsense 2>"$work/out" || stop "$image runs nonsense"
    grep -q "usercast: 'nonsense' cannot be run here" "$work/out" || stop "$image: no clear word about nonsense"
    ok "$image: uid 10001, read-only, no tools, no tests"
    [ "$(docker run --rm --entrypoint id "$image-nginx" -u)" = 101 ] || stop "$image-nginx is root"
    ok "$image-nginx: uid 101"
  done
}

inside() { # image command…
  local image=$1 program=$2
  shift 2
  docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --network none --entrypoint "$program" "$image" "$@"
}

# Compose

compose() {
  part "compose"
  cleaners+=(compose_down)
  composed down --volumes >/dev/null 2>&1 || true
  silent composed up --detach --wait --quiet-pull
  ok "up, everything healthy"
  local name
  for name in $(composed ps --services --status running); do
    case $name in postgres | valkey | localstack) continue ;; esac
    ! composed exec -T "$name" touch /file 2>/dev/null || stop "$name: its root can be written"
    [ "$(composed exec -T "$name" id -u)" != 0 ] || stop "$name is root"
  done
  ok "no process of ours is root, no root can be written"
  composed run --rm logins >"$work/logins"
  python "$lab/browser.py" http://localhost:8000 http://localhost:8001 "$work/logins" | sed 's/^/      /'
  ok "a change reaches a browser through nginx"
  uploads
  for name in master-web master-relay master-worker master-beat billing-web billing-poller billing-worker billing-clock; do
    local before=$SECONDS code
    composed stop --timeout 30 "$name" >/dev/null 2>&1
    [ $((SECONDS - before)) -lt 15 ] || stop "$name took more than 15 s to stop"
    code=$(docker inspect --format '{{.State.ExitCode}}' "usercast-lab-$name-1")
    [ "$code" = 0 ] || stop "$name ended with $code on SIGTERM"
  done
  ok "processes end on SIGTERM, by themselves"
}

# Of the largest size: /tmp has room for three at a time.
uploads() {
  local state codes
  head -c 50M /dev/zero >"$work/large"
  # Django has read them, and then found no token in them.
  codes=$(answers 3)
  [ "$codes" = "403 403 403 " ] || stop "three uploads of 50 MB were answered $codes"
  codes=$(answers 4)
  case $codes in *413* | *000*) stop "four uploads of 50 MB were answered $codes" ;; esac
  state=$(docker inspect --format '{{.State.OOMKilled}} {{.RestartCount}}' usercast-lab-master-nginx-1 usercast-lab-master-web-1)
  [ "$state" = $'false 0\nfalse 0' ] || stop "uploads of 50 MB ended nginx or web: $state"
  [ "$(answers 1)" = "403 " ] || stop "after uploads of 50 MB there is no other"
  rm "$work/large"
  ok "three uploads of 50 MB at once come through, four end nobody"
}

answers() { # how many uploads at once
  local each pids=()
  for ((each = 0; each < $1; each++)); do
    curl --silent --output /dev/null --write-out '%{http_code}\n' --limit-rate 25M --data-binary "@$work/large" \
      --header 'Content-Type: application/octet-stream' http://localhost:8000/admin/login/ >"$work/code-$each" &
    pids+=($!)
  done
  wait "${pids[@]}" || true
  cat "$work"/code-* | tr '\n' ' '
  rm "$work"/code-*
}

composed() { docker compose --project-name usercast-lab --file compose/compose.yaml "$@"; }
compose_down() { composed --profile debug down --volumes --timeout 5; }

# Swarm

swarm() {
  part "swarm"
  swarm_up master billing
  settings

  # As docs/deployment.md has it.
  within 120 silent_topic
  database master
  silent "$swarm/secret.sh" first master
  silent deploy master
  ok "master: $(tail -1 "$work/out" | sed 's/^usercast: //')"
  database billing
  in_task master_worker /app/run manage clients add billing 2>/dev/null \
    | sed -n 's/^USERCAST_MASTER_TOKEN=//p' | tr -d '\n' | silent "$swarm/secret.sh" new billing master-token
  silent "$swarm/secret.sh" first billing
  silent deploy client billing
  ok "client: $(tail -1 "$work/out" | sed 's/^usercast: //')"

  TOKEN_MASTER=$(operator master_worker admin)
  TOKEN_CLIENT=$(operator billing_worker staff)
  export TOKEN_MASTER TOKEN_CLIENT
  traffic --seconds 5
  ok "changes flow: $(cat "$work/traffic")"

  local tasks
  tasks=$(running_tasks)
  silent deploy master
  silent deploy client billing
  [ "$(running_tasks)" = "$tasks" ] || stop "a second deployment of the same started something anew"
  ok "the same again changes nothing"
  # What is not of the tasks themselves is no reason to wait for new ones.
  silent docker service scale billing_web=3
  silent deploy client billing
  within 30 two_of billing_web
  silent docker service scale billing_worker=0
  silent deploy client billing
  [ -n "$(task billing_worker)" ] || stop "billing_worker does not run again"
  ok "a service that was scaled by hand is as its file has it again"

  for name in $(docker ps --quiet --filter label=com.docker.stack.namespace); do
    case $(docker inspect --format '{{.Config.Image}}' "$name") in valkey*) continue ;; esac
    [ "$(docker exec "$name" id -u)" != 0 ] || stop "a task is root"
    ! docker exec "$name" touch /file 2>/dev/null || stop "a task's root can be written"
  done
  ok "no task of ours is root, no root can be written"

  secrets
  upgrade
  broken
  swarm_down >/dev/null 2>&1
}

swarm_up() { # database…
  docker info --format '{{.Swarm.LocalNodeState}}' | grep -q inactive || stop "this Docker is in a swarm: not here"
  cleaners+=(swarm_down)
  silent docker swarm init --advertise-addr 127.0.0.1
  silent docker network create --driver overlay --attachable usercast
  docker run --detach --name usercast-lab-postgres --network usercast --env POSTGRES_PASSWORD=lab postgres:17 >/dev/null
  docker run --detach --name usercast-lab-localstack --network usercast \
    --env SERVICES=sns,sqs,iam,sts,s3,cloudformation,kms localstack/localstack:4.14.0 >/dev/null
  within 60 docker exec usercast-lab-postgres pg_isready -h 127.0.0.1 -U postgres
  local name
  for name; do
    docker exec usercast-lab-postgres psql -h 127.0.0.1 "postgres://postgres:lab@127.0.0.1/postgres" -qc \
      "CREATE DATABASE $name ENCODING 'UTF8' TEMPLATE template0"
  done
}

swarm=infra/swarm
export SETTINGS=$work/settings ALLOW_DIRTY=1

settings() {
  mkdir -p "$SETTINGS"
  printf '%s\n' AWS_REGION=eu-west-1 REGISTRY= SSH_HOST= HTTPS=false TRUSTED_HOP=127.0.0.1 \
    USERCAST_TOPIC_ARN=arn:aws:sns:eu-west-1:000000000000:usercast-users \
    USERCAST_MASTER_URL=http://master:8000 >"$SETTINGS/deploy.env"
  printf '%s\n' ALLOWED_HOSTS=localhost,master PORT=8080 >"$SETTINGS/master.env"
  printf '%s\n' ALLOWED_HOSTS=localhost ALLOWED_ORIGINS=http://localhost:8081 PORT=8081 >"$SETTINGS/billing.env"
}

silent_topic() {
  docker run --rm --network usercast --env-file <(
    printf '%s\n' AWS_ENDPOINT_URL=http://usercast-lab-localstack:4566 AWS_ACCESS_KEY_ID=test \
      AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=eu-west-1 SECRET_KEY=x \
      DATABASE_URL=postgres://x@127.0.0.1/x REDIS_URL=redis://127.0.0.1/0 \
      USERCAST_TOPIC_ARN=arn:aws:sns:eu-west-1:000000000000:usercast-users
  ) usercast-master manage deploy_topic
}

database() { # stack
  database_url "$1" | silent "$swarm/secret.sh" new "$1" database-url
}
database_url() { printf 'postgres://postgres:lab@usercast-lab-postgres:5432/%s' "$1"; }

deploy() { EXTRA_STACK_FILE=$PWD/$lab/$1.yaml "$swarm/deploy.sh" "$@"; }
apply() { EXTRA_STACK_FILE=$PWD/$lab/client.yaml WAIT_SECONDS=${WAIT_SECONDS:-180} "$swarm/apply.sh" billing "$@"; }

task() { docker ps --quiet --filter "label=com.docker.swarm.service.name=$1" | head -1; }
two_of() { [ "$(docker ps --quiet --filter "label=com.docker.swarm.service.name=$1" | wc -l)" = 2 ]; } # service
in_task() { # service command…
  local service=$1
  shift
  docker exec "$(task "$service")" "$@"
}
running_tasks() { docker ps --no-trunc --quiet --filter label=com.docker.stack.namespace | sort; }
fingerprint() { in_task "$1_web" /app/run manage configuration | awk -v name="$2" '$1 == name { print $2, $3 }'; }

operator() { # service name: its token
  docker exec --env OPERATOR_PASSWORD=the-password-of-the-lab "$(task "$1")" /app/run manage operator "$2" \
    | sed -n 's/.*"api_token": "\([^"]*\)".*/\1/p'
}

traffic() { # option…: changes flow, and pages are asked for; what it says is in $work/traffic
  python "$lab/traffic.py" http://localhost:8080 http://localhost:8081 "$@" >"$work/traffic" || { cat "$work/traffic" >&2; stop "traffic"; }
}

secrets() {
  local before after
  before=$(fingerprint master EC2_SUPERSECRET)
  [ "${before#* }" = /run/secrets/ec2.supersecret ] || stop "ec2.supersecret: $before"
  ok "ec2.supersecret is read from its file (fingerprint ${before% *})"
  openssl rand -hex 16 | silent "$swarm/secret.sh" rotate master ec2.supersecret
  after=$(fingerprint master EC2_SUPERSECRET)
  [ "$after" != "$before" ] || stop "ec2.supersecret is as before"
  [ "$(versions master-ec2.supersecret)" = 1 ] || stop "the old ec2.supersecret is still there"
  ok "it is rotated (fingerprint ${after% *}), the old one is gone"
  local cookie
  cookie=$(python "$lab/session.py" http://localhost:8081 sign-in staff the-password-of-the-lab)
  openssl rand -hex 32 | silent "$swarm/secret.sh" rotate billing secret-key
  python "$lab/session.py" http://localhost:8081 look "$cookie" || stop "a session ended with the rotation of secret-key"
  ok "billing's secret-key is rotated, and sessions go on"
  echo nonsense | refused "master-database-url is not rotated" "$swarm/secret.sh" rotate master database-url
  [ "$(versions master-database-url)" = 1 ] || stop "the database-url that was refused is still there"
  ok "a value that does not work is not kept"
  openssl rand -hex 32 | silent "$swarm/secret.sh" rotate master metrics-token
  said "usercast-metrics-token-v1 stays"
  ok "metrics-token is rotated for the master; billing has the old one"
}

versions() { docker secret ls --format '{{.Name}}' | grep -c "^$1-v"; } # full name

# The image of the client as TAG, with what comes on standard input on top.
variant() { # tag
  { echo "FROM usercast-client:latest"; echo "USER root"; cat; echo "USER 10001:10001"; } | docker build --quiet --tag "usercast-client:$1" - >/dev/null
  docker tag usercast-client-nginx:latest "usercast-client-nginx:$1"
  sed "s/^TAG=.*/TAG=$1/" "$STATE/billing/good/given" >"$work/wanted"
}

upgrade() {
  local cookie
  variant lab-next <<<'LABEL lab=next'
  cookie=$(python "$lab/session.py" http://localhost:8081 sign-in staff the-password-of-the-lab)
  COOKIE=$cookie traffic --until "$work/stop" &
  local running=$!
  silent apply "$work/wanted"
  touch "$work/stop"
  wait "$running" || stop "traffic: $(cat "$work/traffic")"
  in_state lab-next
  [ "$(versions usercast-metrics-token)" = 1 ] || stop "nobody has the old metrics-token, and it is still there"
  ok "billing is upgraded while changes flow: $(cat "$work/traffic")"
}

broken() {
  variant lab-cannot-migrate <<<'RUN printf "#!/bin/sh\necho no such thing >&2; exit 1\n" >/app/run'
  refused "nothing was changed" apply "$work/wanted"
  in_state lab-next
  ok "a release that cannot migrate changes nothing"

  sed 's/^AWS_REGION=.*/AWS_REGION=eu-west-2/' "$STATE/billing/good/given" >"$work/wanted"
  WAIT_SECONDS=100 refused "it is at lab-next again" apply "$work/wanted"
  said "there is no queue usercast-billing-live"
  ok "a deployment that finds no queues is rolled back, and says what it lacks"

  variant lab-broken <<<'RUN sed -i "s/^web: .*/web: false/" /app/Procfile'
  refused "it is at lab-next again" apply "$work/wanted"
  in_state lab-next
  traffic --seconds 5
  ok "a release whose web ends at once is rolled back; changes flow: $(cat "$work/traffic")"
}

in_state() { # tag: all services of billing have it
  local image
  for image in $(docker service ls --filter label=com.docker.stack.namespace=billing --format '{{.Image}}' | grep usercast); do
    [ "${image#*:}" = "$1" ] || stop "billing has $image, not $1"
  done
}

swarm_down() {
  docker stack rm billing master || true
  sleep 5
  docker rm --force --volumes usercast-lab-postgres usercast-lab-localstack || true
  docker swarm leave --force || true
  rm -rf "$STATE"
}

# Remote: from a repository of its own, through a registry, to a host by ssh
#
# What this cannot show: that ECR refuses a second push of a tag (this registry does not), that a role
# may sign in there, and that a host of its own has what apply.sh needs.

remote() {
  part "remote"
  PATH=$PATH:/usr/sbin
  local program
  for program in docker-registry htpasswd sshd ssh; do
    command -v "$program" >/dev/null || { printf '  --  left out: there is no %s\n' "$program"; return; }
  done
  swarm_up master
  cleaners+=(remote_down)
  repository
  registry
  host
  far=(env "PATH=$work/bin:$PATH" "DOCKER_CONFIG=$work/docker" "SETTINGS=$work/far" ALLOW_DIRTY=
    "EXTRA_STACK_FILE=$PWD/$lab/master.yaml")
  deploy=$work/usercast/infra/swarm/deploy.sh
  tag=$("$work/usercast/infra/images/build" --tag)
  refusals
  pushing
  deploying
  unwatched
}

# As it is here, but with everything committed.
repository() {
  git clone --quiet --no-checkout . "$work/usercast"
  git ls-files -z --cached --others --exclude-standard \
    | tar -c --null --files-from - --ignore-failed-read 2>/dev/null | tar -x -C "$work/usercast"
  git -C "$work/usercast" add --all
  git -C "$work/usercast" -c user.name=lab -c user.email=lab@localhost -c commit.gpgsign=false \
    commit --quiet --allow-empty --message "As in the lab"
}

free_port() { python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

registry() { # Docker takes plain HTTP from 127.0.0.1.
  at=127.0.0.1:$(free_port)
  mkdir -p "$work/bin" "$work/docker"
  local plugins=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
  [ ! -d "$plugins" ] || ln -s "$plugins" "$work/docker/cli-plugins"
  openssl rand -hex 16 >"$work/password"
  htpasswd -niB AWS <"$work/password" >"$work/accounts"
  cat >"$work/registry.yaml" <<END
version: 0.1
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "$at"}
auth: {htpasswd: {realm: lab, path: $work/accounts}}
END
  docker-registry serve "$work/registry.yaml" >"$work/registry.log" 2>&1 &
  registry_pid=$!
  cat >"$work/bin/aws" <<END
#!/bin/sh
[ "\$*" = "ecr get-login-password --region eu-west-1" ] || { echo "not in the lab: aws \$*" >&2; exit 1; }
cat "$work/password"
END
  chmod +x "$work/bin/aws"
}

host() { # Another home, and nothing else of another machine.
  local port
  port=$(free_port)
  mkdir -p "$work/home"
  ssh-keygen -q -t ed25519 -N '' -f "$work/key"
  ssh-keygen -q -t ed25519 -N '' -f "$work/host_key"
  cat >"$work/bin/login" <<END
#!/bin/sh
export HOME="$work/home" PATH="$work/bin:$PATH" DOCKER_HOST="${DOCKER_HOST:-}"
cd && exec sh -c "\$SSH_ORIGINAL_COMMAND"
END
  cat >"$work/sshd_config" <<END
ListenAddress 127.0.0.1:$port
HostKey $work/host_key
AuthorizedKeysFile $work/key.pub
PasswordAuthentication no
UsePAM no
PidFile none
ForceCommand $work/bin/login
# It would not have keys below /tmp.
StrictModes no
END
  cat >"$work/ssh_config" <<END
Host lab
  HostName 127.0.0.1
  Port $port
  IdentityFile $work/key
  IdentitiesOnly yes
  UserKnownHostsFile $work/known_hosts
  StrictHostKeyChecking yes
Host nobody
  HostName 127.0.0.1
  Port 1
END
  echo "[127.0.0.1]:$port $(cat "$work/host_key.pub")" >"$work/known_hosts"
  printf '#!/bin/sh\nexec %s -F %s "$@"\n' "$(command -v ssh)" "$work/ssh_config" >"$work/bin/ssh"
  chmod +x "$work/bin/login" "$work/bin/ssh"
  [ "$(id -u)" != 0 ] || mkdir -p /run/sshd  # The sshd of root insists.
  "$(command -v sshd)" -D -e -f "$work/sshd_config" >"$work/sshd.log" 2>&1 &
  sshd_pid=$!
}

far_settings() { # what is to be otherwise
  mkdir -p "$work/far"
  printf '%s\n' AWS_REGION=eu-west-1 "REGISTRY=$at/" SSH_HOST=lab HTTPS=false TRUSTED_HOP=127.0.0.1 \
    USERCAST_TOPIC_ARN=arn:aws:sns:eu-west-1:000000000000:usercast-users \
    USERCAST_MASTER_URL=http://master:8000 WAIT_SECONDS=180 "$@" >"$work/far/deploy.env"
  printf '%s\n' ALLOWED_HOSTS=localhost,master PORT=8080 >"$work/far/master.env"
}

refusals() {
  far_settings USERCAST_MASTER_URL=
  refused "USERCAST_MASTER_URL is not set" "${far[@]}" "$deploy" master
  far_settings
  refused "a client cannot be called master" "${far[@]}" "$deploy" client master
  touch "$work/usercast/not-committed"
  refused "changes that are not committed" "${far[@]}" "$deploy" master
  rm "$work/usercast/not-committed"
  ok "refused: what lacks a setting, what is not committed"
  far_settings SSH_HOST=nobody
  refused "nobody does not answer by ssh" "${far[@]}" "$deploy" master
  far_settings
  with_wrong_password "$deploy" master
  ok "refused: a host that does not answer, a wrong password"
}

with_wrong_password() { # command…
  mv "$work/password" "$work/right"
  echo wrong >"$work/password"
  refused "cannot sign in at $at" "${far[@]}" "$@"
  mv "$work/right" "$work/password"
}

# Starts a deployment; when it has said this, it is killed with all its processes of this machine.
broken_off() { # words
  setsid "${far[@]}" "$deploy" master >"$work/out" 2>&1 &
  local running=$!
  until grep -qF -- "$1" "$work/out"; do
    kill -0 "$running" 2>/dev/null || stop "it ended without '$1': $(cat "$work/out")"
    sleep 0.1
  done
  kill -- "-$running"
  wait "$running" 2>/dev/null || true
}

pushing() {
  broken_off "pushing usercast-master-nginx:$tag"
  in_far_registry usercast-master || stop "usercast-master was not pushed"
  ! in_far_registry usercast-master-nginx || stop "the push of usercast-master-nginx was not broken off"
  refused "master lacks the secrets database-url" "${far[@]}" "$deploy" master
  said "usercast-master:$tag is in the registry"
  said "pushing usercast-master-nginx:$tag"
  in_far_registry usercast-master-nginx || stop "usercast-master-nginx was not pushed"
  ok "a broken-off push is taken up; secrets that lack are named"
}

in_far_registry() { "${far[@]}" docker buildx imagetools inspect "$at/$1:$tag" >/dev/null 2>&1; }

deploying() {
  local tasks
  within 120 silent_topic
  database_url master | silent "${far[@]}" ssh lab usercast/secret.sh new master database-url
  silent "${far[@]}" ssh lab usercast/secret.sh first master
  # This machine is the host, too: it must not have them from the push.
  docker image rm "$at/usercast-master:$tag" "$at/usercast-master-nginx:$tag" >/dev/null 2>&1 || true
  [ -z "$(far_images)" ] || stop "the host has the images already"
  silent "${far[@]}" "$deploy" master
  not_pushed
  [ "$(far_images | wc -l)" = 2 ] || stop "the host did not pull both images from $at"
  docker service inspect --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}' master_web | grep -q "^$at/usercast-master:$tag@sha256:" \
    || stop "master_web has another image"
  python -c 'import urllib.request; urllib.request.urlopen("http://localhost:8080/admin/login/")' || stop "it does not answer"
  ok "master, by ssh, its images pulled from the registry, answers"
  tasks=$(running_tasks)
  silent "${far[@]}" "$deploy" master
  not_pushed
  [ "$(running_tasks)" = "$tasks" ] || stop "a second deployment of the same started something anew"
  ok "the same again pushes nothing and starts nothing"
  with_wrong_password ssh lab usercast/apply.sh master
  ok "refused: a wrong password on the host"
}

not_pushed() { ! grep -qE '^building|pushing' "$work/out" || stop "something was built or pushed: $(cat "$work/out")"; }
far_images() { docker image ls --quiet "$at/*"; }

unwatched() {
  broken_off "master: to $tag"
  refused "another deployment of master is under way" "${far[@]}" ssh lab usercast/apply.sh master
  local state=$work/home/usercast/state/master
  flock --timeout 120 "$state/lock" true || stop "the host's part does not end"
  [ -d "$state/good" ] && [ ! -d "$state/wanted" ] || stop "the host's part ended in the middle"
  ok "broken off, it goes on at the host; nobody comes in between"
}

remote_down() {
  # shellcheck disable=SC2086  # One may be none.
  kill $registry_pid $sshd_pid || true
  docker image ls --digests --format '{{.Repository}}:{{.Tag}} {{.Repository}}@{{.Digest}}' "$at/*" | xargs docker image rm
}

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(images compose swarm remote)
for each in "${parts[@]}"; do
  case $each in images | compose | swarm | remote) "$each" ;; *) sed -n '2,15p' "$0" | sed 's/^# \{0,1\}//'; exit 64 ;; esac
done
part "all as it must be, in $SECONDS s"
