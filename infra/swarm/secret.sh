#!/usr/bin/env bash
# A stack's secrets, on the host of the swarm. A secret of a swarm cannot be changed, so each value
# has a version in its name: billing-database-url-v2. apply.sh uses the newest.
#
#   secret.sh first <stack>           makes what is missing and can be random; names what cannot be
#   secret.sh new <stack> <name>      a new version, from standard input
#   secret.sh rotate <stack> <name>   a new version, deployed at once; the older ones are removed when all
#                                     is well, and the last of them is back if it is not
#   secret.sh list <stack>            all versions
#
# `random | secret.sh …` if any value will do: random is `openssl rand -hex 32`, say.
# `metrics-token` is the same for all stacks. With `secret-key` rotated, what the old key has signed
# (sessions, password links) goes on to hold: it becomes `secret-key-fallbacks`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=infra/swarm/names.sh
. "$here/names.sh"

first() { # stack
  local name left=()
  for name in $(missing "$1"); do
    case $name in
      database-url | master-token) left+=("$name") ;;
      *) random | new "$1" "$name" ;;
    esac
  done
  [ ${#left[@]} -eq 0 ] || stop "$1 has yet to be told, each by: secret.sh new $1 <name>: ${left[*]}"
}

new() { # stack name, value on standard input
  local name value
  name=$(full_name "$1" "$2")-$(next_version "$1" "$2")
  value=$(cat)
  [ -n "$value" ] || stop "$name: nothing came on standard input"
  printf '%s' "$value" | docker secret create "$name" - >/dev/null
  say "made $name"
}

rotate() { # stack name, value on standard input
  local old
  old=$(newest_version "$1" "$2")
  [ -n "$old" ] || stop "there is no $(full_name "$1" "$2") yet: secret.sh new $1 $2"
  new "$1" "$2"
  if [ "$2" = secret-key ]; then
    read_current "$1" secret-key | new "$1" secret-key-fallbacks
  fi
  if ! "$here/apply.sh" "$1"; then
    remove_newest "$1" "$2"
    [ "$2" != secret-key ] || remove_newest "$1" secret-key-fallbacks
    stop "$(full_name "$1" "$2") stays at $old"
  fi
  remove_old "$1" "$2"
}

# What the running web has; a swarm shows a secret to nobody else.
read_current() {
  local task
  task=$(docker ps --quiet --filter "label=com.docker.swarm.service.name=$1_web" | head -1)
  [ -n "$task" ] || stop "$1_web does not run on this host: its $2 cannot be read"
  docker exec "$task" cat "/run/secrets/$2"
}

case ${1:-} in
  first) first "$2" ;;
  new) new "$2" "$3" ;;
  rotate) rotate "$2" "$3" ;;
  list) docker secret ls --format '{{.Name}}  {{.CreatedAt}}' | grep -E "^($2|usercast)-" || true ;;
  *) sed -n '2,15p' "$0" | sed 's/^# \{0,1\}//'; exit 64 ;;
esac
