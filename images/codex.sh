#!/usr/bin/env bash
# Copies the pinned Codex CLI out of the runtime image into a directory, for tests that run it outside of a cell.
set -euo pipefail

to=${1:?usage: images/codex.sh DIRECTORY}
image=${ANCHORHOLD_IMAGE_NAME:-anchorhold/runtime:$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}
want=$(docker image inspect -f '{{index .Config.Labels "anchorhold.codex"}}' "$image")
if [ "$(cat "$to/.version" 2>/dev/null)" = "$want" ] && [ -x "$to/bin/codex" ]; then
  exit 0
fi
printf 'codex: copying Codex %s out of %s\n' "$want" "$image"
container=$(docker create --network none "$image" true)
trap 'docker rm -f "$container" >/dev/null' EXIT
rm -rf "$to"
docker cp -q "$container:/opt/codex" "$to" 2>/dev/null || docker cp "$container:/opt/codex" "$to"
printf '%s' "$want" >"$to/.version"
