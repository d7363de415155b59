# What apply.sh and secret.sh share: how a stack's secrets are named, and which it has.
# shellcheck shell=bash

say() { printf 'usercast: %s\n' "$*" >&2; }
stop() { say "$*"; exit 1; }

random() { openssl rand -base64 48 | tr -d '\n=+/' ; }

# The secrets that a stack's file names: apply.sh gives each its version by <NAME>_VERSION.
secrets_of() { # stack
  local common="database-url secret-key secret-key-fallbacks metrics-token"
  if [ "$1" = master ]; then echo "$common ec2.supersecret"; else echo "$common master-token"; fi
}

full_name() { # stack name
  if [ "$2" = metrics-token ]; then echo "usercast-$2"; else echo "$1-$2"; fi
}

version_variable() { # name
  echo "$1" | tr '[:lower:].-' '[:upper:]__' | sed 's/$/_VERSION/'
}

# v1, v2 … of one secret, the oldest first.
versions() { # stack name
  docker secret ls --format '{{.Name}}' | sed -n "s/^$(full_name "$1" "$2")-\(v[0-9]*\)$/\1/p" | sort -V
}

newest_version() { versions "$1" "$2" | tail -1; }

next_version() {
  local newest
  newest=$(newest_version "$1" "$2")
  echo "v$((${newest#v} + 1))"
}

missing() { # stack
  local name
  for name in $(secrets_of "$1"); do
    [ -n "$(newest_version "$1" "$name")" ] || echo "$name"
  done
}

remove_newest() { docker secret rm "$(full_name "$1" "$2")-$(newest_version "$1" "$2")" >/dev/null; }

# All but the newest; one that another stack's running tasks still have stays, and docker says so.
remove_old() {
  local version
  for version in $(versions "$1" "$2" | head -n -1); do
    docker secret rm "$(full_name "$1" "$2")-$version" >/dev/null || true
  done
}
