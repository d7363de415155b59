#!/usr/bin/env bash
# Deploys one service to the swarm, from one's own machine: builds its images, pushes them to ECR,
# copies what the host needs, and has apply.sh deploy it there.
#
#   deploy.sh master
#   deploy.sh client <name>
#
# Settings are in deploy.env, master.env and <name>.env (see the *.example), beside this file or in the
# directory SETTINGS. Safe to repeat, also after it was broken off: what is there already is neither
# built nor pushed nor started again. Broken off while another host deploys, it only stops watching. With
# ALLOW_DIRTY=1 also what is not committed is deployed: for a trial.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
settings=${SETTINGS:-$here}
# shellcheck source=infra/swarm/names.sh
. "$here/names.sh"

main() {
  local kind=${1:-} stack
  case "$kind $#" in
    "master 1") stack=master ;;
    "client 2") stack=$2; check_client "$stack" ;;
    *) usage ;;
  esac
  read_settings "$kind" "$stack"

  TAG=$("$root/infra/images/build" --tag)
  case $TAG in
    *-dirty*) [ -n "${ALLOW_DIRTY:-}" ] || stop "there are changes that are not committed: what runs must be in git" ;;
  esac
  [ -z "$SSH_HOST" ] || on_host true </dev/null
  push "$kind"
  hand_over "$stack"
}

read_settings() { # kind stack
  local file name
  unset "${told[@]}" SSH_HOST
  for file in "$settings/deploy.env" "$settings/$2.env"; do
    [ -f "$file" ] || stop "there is no $file: copy it from its .example and fill it in"
    # shellcheck disable=SC1090
    . "$file"
  done
  local needed="AWS_REGION USERCAST_TOPIC_ARN USERCAST_MASTER_URL TRUSTED_HOP ALLOWED_HOSTS PORT"
  [ "$1" = master ] || needed+=" ALLOWED_ORIGINS"
  for name in $needed; do
    [ -n "${!name:-}" ] || stop "$name is not set: see $settings/deploy.env and $settings/$2.env"
  done
  for name in REGISTRY SSH_HOST; do
    [ -n "${!name+set}" ] || stop "$name is not set (it may be empty): see $settings/deploy.env"
  done
}

push() { # kind
  local image missing=()
  sign_in
  for image in "usercast-$1" "usercast-$1-nginx"; do
    if in_registry "$image"; then say "$image:$TAG is in the registry"; else missing+=("$image"); fi
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ -z "$SSH_HOST" ] || export DOCKER_BUILD_OPTIONS="--platform=${PLATFORM:-linux/amd64} ${DOCKER_BUILD_OPTIONS:-}"
  "$root/infra/images/build" "$1"
  [ -n "$REGISTRY" ] || return 0
  for image in "${missing[@]}"; do
    docker tag "$image:$TAG" "$REGISTRY$image:$TAG"
    say "pushing $image:$TAG"
    # Somebody else may have been faster, and a tag of ECR is taken once.
    docker push --quiet "$REGISTRY$image:$TAG" >/dev/null || in_registry "$image" || stop "cannot push $image"
  done
}

# A tag cannot be pushed twice (infra/ecr): whoever has it has this very content.
in_registry() { # image
  [ -n "$REGISTRY" ] \
    && docker buildx imagetools inspect "$REGISTRY$1:$TAG" >/dev/null 2>&1
}

hand_over() { # stack
  local name
  bundle=$(mktemp -d)
  trap 'rm -rf "$bundle"' EXIT
  for name in "${told[@]}" WAIT_SECONDS; do
    [ -z "${!name+set}" ] || printf '%s=%q\n' "$name" "${!name}"
  done >"$bundle/$1.wanted"
  if [ -z "$SSH_HOST" ]; then
    "$here/apply.sh" "$1" "$bundle/$1.wanted"
    return
  fi
  cp "$here"/{apply,secret,names}.sh "$here"/{master,client}.yaml "$here/site.conf" "$bundle"
  [ -z "${EXTRA_STACK_FILE:-}" ] || cp "$EXTRA_STACK_FILE" "$bundle/$1.extra"
  # `tar` replaces files and does not write into them: one may be running.
  tar -C "$bundle" -cz . | on_host "mkdir -p usercast && tar -C usercast -xz --no-same-owner \
    && ${EXTRA_STACK_FILE:+EXTRA_STACK_FILE=usercast/$1.extra} usercast/apply.sh $1 usercast/$1.wanted"
}

on_host() { # command, of words that need no quotes
  local code=0
  ssh -o ConnectTimeout=10 -o ServerAliveInterval=15 "$SSH_HOST" "$1" || code=$?
  # Its own is 255; any other is that of the command, which has said why.
  [ $code -ne 255 ] || stop "$SSH_HOST does not answer by ssh, or no longer (what it has begun it ends): see $settings/deploy.env"
  return $code
}

main "$@"; exit
