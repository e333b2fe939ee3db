#!/usr/bin/env bash
# Builds the runtime image with the given binary: images/image.sh BINARY [--force]
#
# The binary does it all; this only brings the two programs that it may find missing on a bare machine, one at a time and only when needed.
set -euo pipefail
here=$(dirname "$0")
binary=$1
shift

errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
for _ in 1 2 3; do
  if "$binary" image build "$@" 2>"$errors"; then
    cat "$errors" >&2
    exit 0
  fi
  if grep -q 'npm is not installed' "$errors"; then
    "$here/tools.sh" npm:npm
  elif grep -q 'debootstrap is not installed' "$errors"; then
    "$here/tools.sh" debootstrap:debootstrap
  else
    break
  fi
done
cat "$errors" >&2
exit 1
