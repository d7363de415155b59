#!/usr/bin/env bash
# On the host of the swarm: brings a stack to what is wanted, or back to what it was.
#
#   apply.sh <stack> [<file>]   the file has the variables of <stack>.yaml, TAG among them; without it,
#                               the last deployment that was well, with the newest secrets
#
# Migrates the database first, as a job; then updates, and waits until every task is healthy and has
# what it needs (database, queues, topic), for WAIT_SECONDS at most (300). If one does not get so, all
# services go back to the last deployment that was well, and the exit code is 1. Migrations stay: a
# release must be able to work with the database of the next one. Safe to repeat, also after it was
# killed. EXTRA_STACK_FILE is laid over the stack's file.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=infra/swarm/names.sh
. "$here/names.sh"

[ $# -ge 1 ] || usage
[ "$1" = master ] || check_client "$1"
export STACK=$1
state=${STATE:-$here/state}/$STACK
asked_to_wait=${WAIT_SECONDS:-}
kind=client
[ "$STACK" != master ] || kind=master

main() {
  # Once begun it ends, in one state or the other, even if nobody watches any more.
  trap '' HUP PIPE
  lock "$STACK"
  docker info --format '{{.Swarm.ControlAvailable}}' | grep -q true \
    || stop "this is no manager of a swarm: docker swarm init"
  docker network inspect usercast >/dev/null 2>&1 \
    || docker network create --driver overlay --attachable --opt encrypted usercast >/dev/null

  prepare "${2:-}"
  sign_in
  say "$STACK: to $TAG"
  migrate
  if bring "$state/wanted"; then
    keep
    say "$STACK: all healthy at $TAG"
    return
  fi
  [ -d "$state/good" ] || stop "$STACK: its first deployment did not get healthy; mend it and deploy again"
  say "$STACK: back to $(sed -n 's/^TAG=//p' "$state/good/env")"
  bring "$state/good" || stop "$STACK: that did not get healthy, either; see docker service ps"
  stop "$STACK: this deployment of $TAG did not get healthy, for the reason above; it is at $(sed -n 's/^TAG=//p' "$state/good/env") again"
}

# Everything that a deployment is made of, in one directory: so that it can be had again.
prepare() { # file with variables, or nothing
  local name lacks
  lacks=$(missing "$STACK" | tr '\n' ' ')
  [ -z "$lacks" ] || stop "$STACK lacks the secrets ${lacks}- make them: secret.sh first $STACK"
  # Killed between the two steps of `keep`.
  [ -d "$state/good" ] || [ ! -d "$state/before" ] || mv "$state/before" "$state/good"
  rm -rf "$state/wanted"
  if [ -n "$1" ]; then
    mkdir "$state/wanted"
    cp "$here/$kind.yaml" "$state/wanted/stack.yaml"
    cp "$here/site.conf" "$state/wanted/site.conf"
    [ -z "${EXTRA_STACK_FILE:-}" ] || cp "$EXTRA_STACK_FILE" "$state/wanted/extra.yaml"
    cp "$1" "$state/wanted/given"
  else
    [ -d "$state/good" ] || stop "$STACK was never well here; give the file with its variables"
    cp -R "$state/good" "$state/wanted"
  fi
  {
    cat "$state/wanted/given"
    echo "SITE_VERSION=$(sha256sum "$state/wanted/site.conf" | cut -c1-12)"
    for name in $(secrets_of "$STACK"); do
      echo "$(version_variable "$name")=$(newest_version "$STACK" "$name")"
    done
  } >"$state/wanted/env"
  load "$state/wanted"
}

load() { # directory
  unset "${told[@]}"
  set -a
  # shellcheck disable=SC1091
  . "$1/env"
  set +a
  # For this time, whatever the settings say.
  WAIT_SECONDS=${asked_to_wait:-${WAIT_SECONDS:-300}}
}

# What is wanted is good: it is what a later one goes back to, and has the only secrets still needed.
keep() {
  local name
  rm -rf "$state/before"
  [ ! -d "$state/good" ] || mv "$state/good" "$state/before"
  mv "$state/wanted" "$state/good"
  for name in $(secrets_of "$STACK"); do remove_old "$STACK" "$name"; done
  for name in $(docker config ls --format '{{.Name}}' | grep "^$STACK-site-" | grep -vF -- "-$SITE_VERSION"); do
    docker config rm "$name" >/dev/null 2>&1 || true
  done
}

migrate() {
  local job=${STACK}_migrate name version options=() deadline=$((SECONDS + WAIT_SECONDS)) told_at=$SECONDS
  for name in $(secrets_of "$STACK"); do
    version=$(version_variable "$name")
    options+=(--secret "source=$(full_name "$STACK" "$name")-${!version},target=$name,uid=10001,gid=10001,mode=0400")
  done
  docker service rm "$job" >/dev/null 2>&1 || true
  # Of a deployment that was killed: two must not change one database.
  while [ -n "$(docker ps --quiet --filter "label=com.docker.swarm.service.name=$job")" ]; do sleep 1; done
  docker service create --detach --quiet --with-registry-auth --name "$job" \
    --mode replicated-job --restart-condition none --network usercast \
    --read-only --cap-drop ALL --mount type=tmpfs,target=/tmp --no-healthcheck "${options[@]}" \
    --limit-memory 512M --log-driver json-file --log-opt max-size=10m --log-opt max-file=3 \
    --env "TZ=${TZ:-UTC}" --env "AWS_DEFAULT_REGION=$AWS_REGION" \
    --env DATABASE_URL_FILE=/run/secrets/database-url --env SECRET_KEY_FILE=/run/secrets/secret-key \
    --env REDIS_URL=redis://valkey:6379/0 --env "USERCAST_TOPIC_ARN=$USERCAST_TOPIC_ARN" \
    --env "USERCAST_CLIENT=$STACK" --env "ALLOWED_ORIGINS=${ALLOWED_ORIGINS:-}" \
    "${REGISTRY}usercast-$kind:$TAG" migrate >/dev/null
  local task=""
  while true; do
    task=$(docker service ps "$job" --no-trunc --format '{{.CurrentState}}|{{.Error}}' | head -1) || task=""
    case $task in
      Complete*) break ;;
      Running*)  # As long as it takes.
        [ $((SECONDS - told_at)) -lt 60 ] || {
          told_at=$SECONDS
          say "$STACK: it goes on migrating; docker service logs $job shows how far it is"
        }
        ;;
      Failed* | Rejected* | Shutdown* | Orphaned*)
        docker service logs --raw --tail 20 "$job" >&2 || true
        docker service rm "$job" >/dev/null
        stop "$STACK: the migration failed (${task#*|}); nothing was changed"
        ;;
      *)
        [ $SECONDS -le $deadline ] || {
          docker service rm "$job" >/dev/null
          stop "$STACK: the migration does not begin (${task:-no task}); nothing was changed"
        }
        ;;
    esac
    sleep 1
  done
  docker service rm "$job" >/dev/null
}

# Deploys what a directory holds; returns when every task is healthy, or 1 when one will not be.
bring() { # directory
  local service names before=() files=(--compose-file stack.yaml)
  while read -r service; do
    # Where there was no task there is none to be updated.
    [ "$(replicas "$service")" = 0 ] || before+=("$(spec "$service")")
  done < <(services)
  [ ! -f "$1/extra.yaml" ] || files+=(--compose-file extra.yaml)
  (
    cd "$1" || exit  # `set -e` is off where a caller asks for the outcome.
    load .
    # What it says when all is well is about registries; when not, it is the reason.
    said=$(docker stack deploy --with-registry-auth --resolve-image changed --prune "${files[@]}" "$STACK" 2>&1) \
      || { say "$said"; exit 1; }
  ) || return 1
  local deadline=$((SECONDS + WAIT_SECONDS)) waiting
  : >"$state/lacks"
  while true; do
    waiting=""
    names=$(services) || names=""
    [ -n "$names" ] || waiting=" docker"  # It does not answer: that is not "all are well".
    for service in $names; do
      case $(stands "$service" "${before[*]}") in
        well) ;;
        failed) tell "$service"; return 1 ;;
        *) waiting+=" $service" ;;
      esac
    done
    [ -n "$waiting" ] || waiting=$(unready "$state/lacks")
    [ -n "$waiting" ] || return 0
    if [ $SECONDS -gt $deadline ]; then
      say "$STACK: after $WAIT_SECONDS s still not healthy:$waiting"
      sed 's/^/  /' "$state/lacks" >&2
      for service in $(services); do
        case " $waiting " in *" $service "*) tell "$service" ;; esac
      done
      return 1
    fi
    sleep 2
  done
}

services() {
  docker service ls --filter "label=com.docker.stack.namespace=$STACK" --format '{{.Name}}' | sort
}

# The services whose tasks on this host lack what they need; what it is goes to the file. nginx and
# valkey need nothing.
unready() { # file
  local tasks task service
  : >"$1"
  tasks=$(docker ps --filter "label=com.docker.stack.namespace=$STACK" \
    --format '{{.ID}} {{.Label "com.docker.swarm.service.name"}}') || { printf ' docker'; return; }
  while read -r task service; do
    case $service in *_nginx | *_valkey) continue ;; esac
    timeout 30 docker exec "$task" /app/run healthy --ready >>"$1" 2>&1 </dev/null || printf ' %s' "$service"
  done <<<"$tasks"
}

replicas() { docker service inspect --format '{{.Spec.Mode.Replicated.Replicas}}' "$1"; } # service

# A service and what its tasks are to be: it changes when, and only when, an update begins. Where tasks
# may be placed is not of it: that alone replaces none.
spec() { # service
  local what="{{json .Spec.EndpointSpec}}" part
  for part in ContainerSpec Resources RestartPolicy Networks LogDriver ForceUpdate; do
    what+="{{json .Spec.TaskTemplate.$part}}"
  done
  echo "$1:$(docker service inspect --format "$what" "$1" | sha256sum | cut -c1-16)"
}

stands() { # service, the specs before: well, failed, or nothing yet
  local update running image
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
  image=$(docker service inspect --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}' "$1")
  running=$(docker service ps "$1" --no-trunc --filter desired-state=running --format '{{.Image}} {{.CurrentState}}' \
    | grep -cF "$image Running" || true)
  [ "$running" != "$(replicas "$1")" ] || echo well
}

# What became of its tasks, and the end of the log of the latest that failed, or else of the latest.
tell() { # service
  local task
  say "$1:"
  docker service ps "$1" --no-trunc --format '  {{.Name}}  {{.CurrentState}}  {{.Error}}' | head -4 >&2
  task=$(docker service ps "$1" --no-trunc --format '{{.ID}} {{.CurrentState}}' \
    | awk 'NR == 1 {task = $1} $2 ~ /Failed|Rejected/ {task = $1; exit} END {print task}')
  docker service logs --raw --tail 10 "$task" 2>&1 | sed 's/^/  /' >&2 || true
}

# Bash reads as it goes: by `exit` it never comes to a newer file of this name.
main "$@"; exit
