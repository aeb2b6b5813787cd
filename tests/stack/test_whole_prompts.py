"""vLLM's CPU engine with seeded requests whose prompts do not fit into one step together."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from openrlhf_rad.jobs.prepare import prepare_tiny

pytestmark = pytest.mark.stack

#: Three prompts of 40 tokens, 100 tokens a step: the third would be cut if the engine might.
SCRIPT = """
import json, sys
from openrlhf_rad.plugin import cpu
cpu.activate()
from vllm import LLM, SamplingParams
model = LLM(model=sys.argv[1], max_model_len=96, max_num_batched_tokens=100,
            max_num_seqs=8, **cpu.engine_arguments())
prompts = [{"prompt_token_ids": [5 + (7 * i + j) % 40 for j in range(40)]} for i in range(3)]
parameters = [SamplingParams(max_tokens=8, seed=i, ignore_eos=True) for i in range(3)]
found = model.generate(prompts, parameters, use_tqdm=False)
print(json.dumps([answer.outputs[0].token_ids for answer in found]))
"""


def test_seeded_requests_are_answered_whole() -> None:
    words = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(prepare_tiny().policy)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OPENRLHF_RAD_BACKEND": "cpu"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("[[")]
    answers = json.loads(line)
    assert [len(answer) for answer in answers] == [8, 8, 8]
