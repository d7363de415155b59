#!/usr/bin/env bash
# A stack's secrets, on the host of the swarm. A secret of a swarm cannot be changed, so each value
# has a version in its name: billing-database-url-v2. apply.sh deploys the newest, and removes the
# older ones when all is well.
#
#   secret.sh first <stack>           makes what is missing and can be random; names what cannot be
#   secret.sh new <stack> <name>      a new version, from standard input, for the next deployment; on a
#                                     terminal it is asked for
#   secret.sh rotate <stack> <name>   a new version, deployed at once; taken back if that does not get well
#   secret.sh list <stack>            all versions
#
# If any value will do: openssl rand -hex 32 | secret.sh …
# `metrics-token` is the same for all stacks: each has the new one with its next deployment, and
# the last of them takes the old one away. With `secret-key` rotated, what the old key has signed
# (sessions, password links) goes on to hold: it becomes `secret-key-fallbacks`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=infra/swarm/names.sh
. "$here/names.sh"

main() {
  case "${1:-} $#" in
    "first 2" | "list 2" | "new 3" | "rotate 3") ;;
    *) usage ;;
  esac
  [ "$2" = master ] || check_client "$2"
  [ $# -eq 2 ] || check_secret "$2" "$3"
  case $1 in
    first) first "$2" ;;
    new) new "$2" "$3" ;;
    rotate) rotate "$2" "$3" ;;
    list) list "$2" ;;
  esac
}

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
  local value
  value=$(given "$1" "$2")
  create "$1" "$2" "$value"
}

given() { # stack name: the value
  local value=""
  if [ -t 0 ]; then
    IFS= read -rsp "usercast: $(full_name "$1" "$2") (it is not shown): " value || true
    echo >&2
  else
    value=$(cat)
  fi
  [ -n "$value" ] || stop "$(full_name "$1" "$2"): nothing came on standard input"
  printf '%s' "$value"
}

create() { # stack name value
  local name
  name=$(full_name "$1" "$2")-$(next_version "$1" "$2")
  printf '%s' "$3" | docker secret create "$name" - >/dev/null
  say "made $name"
}

rotate() { # stack name, value on standard input
  local old value key=""
  # Begun, it ends: a value that does not work must not stay, even if nobody watches any more.
  trap '' HUP PIPE
  lock "$1"
  old=$(newest_version "$1" "$2")
  [ -n "$old" ] || stop "there is no $(full_name "$1" "$2") yet: secret.sh new $1 $2"
  value=$(given "$1" "$2")
  # Before the new key: without the old one beside it all sessions would end.
  if [ "$2" = secret-key ]; then
    key=$(read_current "$1" secret-key)
    create "$1" secret-key-fallbacks "$key"
  fi
  create "$1" "$2" "$value"
  "$here/apply.sh" "$1" </dev/null && return
  remove_newest "$1" "$2"
  [ -z "$key" ] || remove_newest "$1" secret-key-fallbacks
  stop "$(full_name "$1" "$2") is not rotated, for the reason above"
}

# What the running web has; a swarm shows a secret to nobody else.
read_current() { # stack name
  local task
  task=$(docker ps --quiet --filter "label=com.docker.swarm.service.name=$1_web" --filter health=healthy | head -1)
  [ -n "$task" ] || stop "$1_web does not run on this host: its $2 cannot be read"
  docker exec "$task" cat "/run/secrets/$2"
}

list() { # stack
  local name version
  for name in $(secrets_of "$1"); do
    for version in $(versions "$1" "$name"); do echo "$(full_name "$1" "$name")-$version"; done
  done
}

# Bash reads as it goes: by `exit` it never comes to a newer file of this name.
main "$@"; exit
