#!/usr/bin/env bash
# What a newcomer waits for: both commands of the README in a fresh clone, a fresh venv and an empty cache.
#
#   benchmarks/newcomer.sh [--no-tests] [FOLDER]
#
# Prints a Markdown table of the phases with the processor's name. What the commands print is kept in FOLDER,
# a new temporary one unless it is named. OPENRLHF_RAD_DTYPE=float32 shows a processor without bfloat16.
set -euo pipefail

tests=yes
if [ "${1:-}" = --no-tests ]; then tests=no; shift; fi
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
export OPENRLHF_RAD_CACHE=$folder/cache TORCH_EXTENSIONS_DIR=$folder/extensions
git clone --quiet "$source" "$folder/clone"
cd "$folder/clone"

phase() { # NAME COMMAND...: run it, its output into a file, and remember its seconds
  local name=$1 began code=0
  shift
  began=$(date +%s)
  "$@" >"$folder/$name.log" 2>&1 || code=1
  rows+=("$name|$(($(date +%s) - began))")
  [ "$code" = 0 ] && return
  tail -n 30 "$folder/$name.log" >&2
  echo "newcomer: $name failed; its output is in $folder/$name.log" >&2
  return 1
}

rows=()
phase install make install
phase assets .venv/bin/python -m openrlhf_rad.jobs.prepare
phase train make train
phase tiny .venv/bin/rad-train --preset tiny
failed=0
if [ "$tests" = yes ]; then phase test make test || failed=1; fi # the other times are worth a table all the same

.venv/bin/python -W ignore - <<'PYTHON'
from openrlhf_rad.processor import measurement, number_format

found = measurement()
print(f"\n{found.name}, {found.cores} cores ({', '.join(found.instructions)}); {found.speed}; {number_format()}\n")
PYTHON
echo "| phase | time |"
echo "|---|---|"
declare -A words=(
  [install]='install (`make install`)' [assets]='preparation of the assets' [train]='the default job (`make train`)'
  [tiny]='`rad-train --preset tiny`, its assets included' [test]='`make test`'
)
for row in "${rows[@]}"; do
  printf '| %s | %d:%02d |\n' "${words[${row%|*}]}" $((${row#*|} / 60)) $((${row#*|} % 60))
done
exit "$failed"
