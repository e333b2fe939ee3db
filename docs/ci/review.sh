#!/usr/bin/env bash
# Reviews what HEAD has that a base has not, and leaves the reports in a directory. For any pipeline that has bash, git and a Docker engine.
#
#   BASE        branch (such as origin/main), tag or commit to compare with
#   REPORTS     directory for the reports (default: anchorhold-review; keep it out of the commit)
#   FAIL_ON     critical, high, medium, low, nit or none (default: high)
#   MAX_TOKENS  tokens that the review may use (default: 400000)
#   DEADLINE    time that it may take (default: 20m)
#
# The exit code is that of `anchorhold review`: 0 clean, 20 findings, 21 partial, others in docs/CLI.md.
set -euo pipefail

reports=${REPORTS:-anchorhold-review}
base=${BASE:?set BASE to what the change is compared with, such as origin/main}

# A pipeline's clone is often shallow and knows no branch but its own: get the base, and the history down to where HEAD left it.
if [ "$(git rev-parse --is-shallow-repository)" = true ]; then
  git fetch --quiet --no-tags --unshallow origin
fi
if ! git rev-parse --quiet --verify --end-of-options "$base^{commit}" >/dev/null; then
  branch=${base#origin/}
  git fetch --quiet --no-tags origin "+refs/heads/$branch:refs/remotes/origin/$branch"
  base=origin/$branch
fi

mkdir -p "$reports"
exec anchorhold review --base "$base" \
  --fail-on "${FAIL_ON:-high}" --max-tokens "${MAX_TOKENS:-400000}" --deadline "${DEADLINE:-20m}" \
  --format text \
  --format markdown --output "$reports/review.md" \
  --format json --output "$reports/review.json" \
  --format sarif --output "$reports/review.sarif" \
  --format junit --output "$reports/review.xml"
