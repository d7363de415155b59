#!/usr/bin/env bash
# On the host of the swarm: brings a stack to what is wanted, or back to what it was.
#
#   apply.sh <stack> [<file>]   the file has the variables of <stack>.yaml, TAG among them; without it,
#                               those of the last deployment, with the newest secrets
#
# Migrates the database first, as a job; then updates, and waits until every task is healthy. If one
# does not get so, all services go back to the last deployment that was well, and the exit code is 1.
# Migrations stay: a release must be able to work with the database of the next one. Safe to repeat.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=infra/swarm/names.sh
. "$here/names.sh"

[ $# -ge 1 ] || { sed -n '2,10p' "$0" | sed 's/^# \{0,1\}//'; exit 64; }
export STACK=$1
state=$here/state/$STACK
wait_seconds=${WAIT_SECONDS:-300}

main() {
  mkdir -p "$state"
  exec 9>"$state/lock"
  flock -n 9 || stop "another deployment of $STACK is under way"
  docker info --format '{{.Swarm.ControlAvailable}}' | grep -q true \
    || stop "this is no manager of a swarm: docker swarm init"
  docker network inspect usercast >/dev/null 2>&1 \
    || docker network create --driver overlay --attachable --opt encrypted usercast >/dev/null

  prepare "${2:-$state/good/env}"
  sign_in
  say "$STACK: to $TAG"
  migrate
  if bring "$state/wanted"; then
    rm -rf "$state/good"
    mv "$state/wanted" "$state/good"
    say "$STACK: all healthy at $TAG"
    return
  fi
  [ -d "$state/good" ] || stop "$STACK: its first deployment did not get healthy; mend it and deploy again"
  say "$STACK: back to $(sed -n 's/^TAG=//p' "$state/good/env")"
  bring "$state/good" || stop "$STACK: that did not get healthy, either; see docker service ps"
  stop "$STACK: $TAG did not get healthy, for the reason above; it is at $(sed -n 's/^TAG=//p' "$state/good/env") again"
}

# Everything that a deployment is made of, in one directory: so that it can be had again.
prepare() { # file with variables
  [ -f "$1" ] || stop "$STACK was never deployed from here; give the file with its variables"
  local name lacks kind=client
  lacks=$(missing "$STACK" | tr '\n' ' ')
  [ -z "$lacks" ] || stop "$STACK lacks the secrets ${lacks}- make them: secret.sh first $STACK"
  [ "$STACK" != master ] || kind=master
  rm -rf "$state/new"
  mkdir "$state/new"
  cp "$here/$kind.yaml" "$state/new/stack.yaml"
  cp "$here/site.conf" "$state/new/site.conf"
  [ -z "${EXTRA_STACK_FILE:-}" ] || cp "$EXTRA_STACK_FILE" "$state/new/extra.yaml"
  grep -v '_VERSION=' "$1" >"$state/new/env"
  {
    echo "SITE_VERSION=$(sha256sum "$here/site.conf" | cut -c1-12)"
    for name in $(secrets_of "$STACK"); do
      echo "$(version_variable "$name")=$(newest_version "$STACK" "$name")"
    done
  } >>"$state/new/env"
  rm -rf "$state/wanted"
  mv "$state/new" "$state/wanted"
  set -a
  # shellcheck disable=SC1091
  . "$state/wanted/env"
  set +a
}

sign_in() {
  [ -n "$REGISTRY" ] || return 0
  aws ecr get-login-password --region "$AWS_REGION" \
    | docker login --username AWS --password-stdin "${REGISTRY%/}" >/dev/null 2>&1 \
    || stop "cannot sign in at $REGISTRY: has this host the role of infra/ec2/host.yaml?"
}

migrate() {
  local job=${STACK}_migrate name version options=() kind=client
  [ "$STACK" != master ] || kind=master
  for name in $(secrets_of "$STACK"); do
    version=$(version_variable "$name")
    options+=(--secret "source=$(full_name "$STACK" "$name")-${!version},target=$name,uid=10001,gid=10001,mode=0400")
  done
  docker service rm "$job" >/dev/null 2>&1 || true
  docker service create --detach --quiet --with-registry-auth --name "$job" \
    --mode replicated-job --restart-condition none --network usercast \
    --read-only --cap-drop ALL --mount type=tmpfs,target=/tmp --no-healthcheck "${options[@]}" \
    --env DATABASE_URL_FILE=/run/secrets/database-url --env SECRET_KEY_FILE=/run/secrets/secret-key \
    --env REDIS_URL=redis://valkey:6379/0 --env "USERCAST_TOPIC_ARN=$USERCAST_TOPIC_ARN" \
    --env "USERCAST_CLIENT=$STACK" --env "ALLOWED_ORIGINS=${ALLOWED_ORIGINS:-}" \
    "${REGISTRY}usercast-$kind:$TAG" migrate >/dev/null
  local task=""
  while true; do
    task=$(docker service ps "$job" --no-trunc --format '{{.CurrentState}}|{{.Error}}' | head -1)
    case $task in
      Complete*) break ;;
      Failed* | Rejected*)
        docker service logs --raw --tail 20 "$job" >&2 || true
        docker service rm "$job" >/dev/null
        stop "$STACK: the migration failed (${task#*|}); nothing was changed"
        ;;
    esac
    sleep 1
  done
  docker service rm "$job" >/dev/null
}

# Deploys what a directory holds; returns when every task is healthy, or 1 when one will not be.
bring() { # directory
  local service before=() files=(--compose-file stack.yaml)
  while read -r service; do before+=("$(spec "$service")"); done < <(services)
  [ ! -f "$1/extra.yaml" ] || files+=(--compose-file extra.yaml)
  (
    cd "$1"
    set -a
    # shellcheck disable=SC1091
    . ./env
    # What it says when all is well is about registries; when not, it is the reason.
    said=$(docker stack deploy --with-registry-auth --prune "${files[@]}" "$STACK" 2>&1) || { say "$said"; exit 1; }
  ) || return 1
  local deadline=$((SECONDS + wait_seconds)) waiting
  while true; do
    waiting=""
    for service in $(services); do
      case $(stands "$service" "${before[*]}") in
        well) ;;
        failed) tell "$service"; return 1 ;;
        *) waiting+=" $service" ;;
      esac
    done
    [ -n "$waiting" ] || return 0
    if [ $SECONDS -gt $deadline ]; then
      say "$STACK: after $wait_seconds s still not healthy:$waiting"
      for service in $waiting; do tell "$service"; done
      return 1
    fi
    sleep 2
  done
}

services() {
  docker service ls --filter "label=com.docker.stack.namespace=$STACK" --format '{{.Name}}' | sort
}

# A service and what it is to be: it changes when, and only when, an update begins.
spec() { # service
  echo "$1:$(docker service inspect --format '{{json .Spec}}' "$1" | sha256sum | cut -c1-16)"
}

stands() { # service, the specs before: well, failed, or nothing yet
  local update running wanted
  update=$(docker service inspect --format '{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}' "$1")
  case $update in
    paused | rollback*) echo failed; return ;;
    updating) return ;;
  esac
  # It was there and is to be something else: until its update has begun, it only looks well.
  case " $2 " in
    *" $(spec "$1") "*) ;;
    *" $1:"*) [ "$update" = completed ] || return 0 ;;
  esac
  wanted=$(docker service inspect --format '{{.Spec.Mode.Replicated.Replicas}}' "$1")
  running=$(docker service ps "$1" --filter desired-state=running --format '{{.CurrentState}}' | grep -c '^Running' || true)
  [ "$running" != "$wanted" ] || echo well
}

tell() { # service
  say "$1:"
  docker service ps "$1" --no-trunc --format '  {{.Name}}  {{.CurrentState}}  {{.Error}}' | head -4 >&2
  docker service logs --raw --tail 10 "$1" 2>&1 | sed 's/^/  /' >&2 || true
}

main "$@"
