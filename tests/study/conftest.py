"""A study of a small exact world: two variants, two baselines, two seeds, a second of training."""

import pytest

STUDY = """
name: small
out: {out}
seeds: {seeds}
ask: 20% of reference spread
baselines: [safe-rlhf]
profiles: [uniform, cvar]
set: {{reference.samples: 512}}
frontier: {{of: [safe-rlhf], multiples: [0.5]}}
feasibility: {{profiles: [cvar], scales: [1, 3], seeds: [7]}}
evaluation: {{threshold: 0.3}}
world:
  kinds:
    plain: {{count: 2, share: 0.5, reward: 0, cost: 0.1}}
    mild: {{count: 2, share: 0.4, reward: 0.6, cost: 1}}
    grave: {{count: 1, share: 0.1, reward: 1.5, cost: 4, tempted: 2}}
  prompts: 5
  steps: {steps}
"""


@pytest.fixture
def study_file(tmp_path):
    """Writes the file of a study; its folder is ``out``."""

    def write(out="out", seeds=2, steps=20, change=lambda text: text):
        path = tmp_path / "study.yaml"
        path.write_text(change(STUDY.format(out=tmp_path / out, seeds=seeds, steps=steps)))
        return path

    return write
