#!/usr/bin/env bash
# The wheel alone, in a fresh environment of some Python: .ci/wheel.sh python3.12
# What a reviewer does without a GPU must work: profiles, calibration, the gate, a report.
set -euo pipefail
python=${1:?which Python, for instance python3.12}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A copy, so that the tree gets neither build/ nor *.egg-info.
mkdir "$work/tree"
cp -r "$root"/{pyproject.toml,README.md,LICENSE,openrlhf_rad,cli,risk_profiles} "$work/tree"
"$python" -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip --disable-pip-version-check)
"${pip[@]}" wheel --quiet --no-deps --wheel-dir "$work" "$work/tree"
"${pip[@]}" install --quiet "$work"/openrlhf_rad-*.whl
! "${pip[@]}" show --quiet torch 2>/dev/null

cd "$work"
export PATH=$work/venv/bin:$PATH
python - <<'ROWS'
import json, random

draw = random.Random(0)
for name, shift in {"old": 0.0, "new": -1.0}.items():
    with open(f"{name}.jsonl", "w") as file:
        for i in range(800):
            row = {"prompt": f"p{i}", "response": f"{name} {i}", "cost": draw.gauss(shift, 1)}
            file.write(json.dumps(row) + "\n")
ROWS
rad --version
rad-train --version
rad profile list
rad profile check medical
rad profile explain medical
rad profile plot cvar medical --out spectra.svg
rad calibrate old.jsonl --profile medical --no-labels --out calibrated.yaml
rad gate --baseline old=old.jsonl --candidate new=new.jsonl --profile medical --no-labels
rad-train --preset tiny --dry-run >/dev/null 2>&1
# It says that training needs more, and its exit code too.
rad doctor >doctor.txt || grep -F "profiles, calibration, gates and reports need no more" doctor.txt
echo "the wheel works on $("$python" --version)"
