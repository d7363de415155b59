#!/usr/bin/env bash
# Deploys one service to the swarm, from one's own machine: builds its images, pushes them to ECR,
# copies what the host needs, and has apply.sh deploy it there.
#
#   deploy.sh master
#   deploy.sh client <name>
#
# Settings are in deploy.env, master.env and <name>.env (see the *.example), beside this file or in the
# directory SETTINGS. Safe to repeat: what is there already is neither built nor pushed nor started
# again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
settings=${SETTINGS:-$here}
# shellcheck source=infra/swarm/names.sh
. "$here/names.sh"

usage() { sed -n '2,10p' "$0" | sed 's/^# \{0,1\}//'; exit 64; }

main() {
  local kind=${1:-} stack
  case $kind in
    master) [ $# -eq 1 ] || usage; stack=master ;;
    client) [ $# -eq 2 ] || usage; stack=$2 ;;
    *) usage ;;
  esac
  read_settings "$kind" "$stack"

  TAG=$("$root/infra/images/build" --tag)
  case $TAG in
    *-dirty) [ -n "${ALLOW_DIRTY:-}" ] || stop "there are changes that are not committed: what runs must be in git" ;;
  esac
  push "$kind"
  hand_over "$stack"
}

read_settings() { # kind stack
  local file name
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
  local image images=("usercast-$1" "usercast-$1-nginx") missing=()
  if [ -n "$REGISTRY" ]; then
    aws ecr get-login-password --region "$AWS_REGION" \
      | docker login --username AWS --password-stdin "${REGISTRY%/}" >/dev/null 2>&1 \
      || stop "cannot sign in at $REGISTRY: is AWS_PROFILE (${AWS_PROFILE:-none}) allowed to?"
  fi
  for image in "${images[@]}"; do
    # A tag cannot be pushed twice (infra/ecr): whoever has it, has this very revision.
    if [ -n "$REGISTRY" ] && docker manifest inspect "${INSECURE_REGISTRY:+--insecure}" "$REGISTRY$image:$TAG" >/dev/null 2>&1; then
      say "$image:$TAG is in the registry"
    else
      missing+=("$image")
    fi
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  "$root/infra/images/build" "$1"
  [ -n "$REGISTRY" ] || return 0
  for image in "${missing[@]}"; do
    docker tag "$image:$TAG" "$REGISTRY$image:$TAG"
    say "pushing $image:$TAG"
    docker push --quiet "$REGISTRY$image:$TAG" >/dev/null
  done
}

hand_over() { # stack
  wanted=$(mktemp)
  trap 'rm -f "$wanted"' EXIT
  local name
  for name in AWS_REGION REGISTRY USERCAST_TOPIC_ARN USERCAST_MASTER_URL TRUSTED_HOP TZ HTTPS \
    ALLOWED_HOSTS ALLOWED_ORIGINS PORT TAG; do
    [ -z "${!name+set}" ] || printf '%s=%q\n' "$name" "${!name}"
  done >"$wanted"
  local files=(apply.sh secret.sh names.sh master.yaml client.yaml site.conf)
  if [ -z "$SSH_HOST" ]; then
    "$here/apply.sh" "$1" "$wanted"
    return
  fi
  # shellcheck disable=SC2029  # The host's directory is the same wherever this runs.
  ssh "$SSH_HOST" "mkdir -p usercast"
  scp -q "${files[@]/#/$here/}" "$SSH_HOST:usercast/"
  scp -q "$wanted" "$SSH_HOST:usercast/$1.wanted"
  # shellcheck disable=SC2029
  ssh "$SSH_HOST" "usercast/apply.sh $1 usercast/$1.wanted"
}

main "$@"
