"""What is refused before anything starts: the exact text, all at once, and nothing is written."""

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from openrlhf_rad.cli import machine, preflight, prompts
from openrlhf_rad.cli.plan import TrainOptions, make

from openrlhf_rad.errors import ConfigError, EnvironmentProblem
from openrlhf_rad.jobs.presets import PRESETS
from openrlhf_rad.processor import Processor
from openrlhf_rad.runs import RunFolder


def plan(job, *words, overrides=(), cost=True, **options):
    chosen = {"profile": "medical", "out": job.folder / "run", **options}
    named = any(text.startswith("cost.") for text in overrides) or not cost
    cost = [] if named else [f"cost.function={job.folder}/cost.py"]
    return make(TrainOptions(words=[*job.flags, *words], overrides=[*overrides, *cost], **chosen))


def test_a_right_job_passes_and_leaves_nothing_behind(job):
    made = plan(job)
    preflight.check(made)
    assert not made.out.exists()
    assert prompts.steps(made) == 2


def test_all_problems_at_once(job):
    (job.folder / "reward.py").unlink()
    job.write_prompts()
    with pytest.raises(ConfigError) as error:
        preflight.check(
            plan(job, "--actor.model_name_or_path", "/no/model", overrides=["cost.function=no.py"])
        )
    file = job.folder / "prompts.jsonl"
    assert str(error.value).splitlines() == [
        "--actor.model_name_or_path is /no/model; there is no such folder;"
        " check it, or name one of a hub as org/name",
        f"--data.prompt_dataset {file}: the file is empty; a run needs prompts; write one a line, as JSON",
        f"cost.function is {os.getcwd()}/no.py; there is no such file;"
        " it must define cost_func(queries, prompts, labels)",
        f"--reward.remote_url is {job.folder / 'reward.py'}; there is no such file;"
        " it must define reward_func(queries, prompts, labels)",
    ]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (
            [{"input": "a"}, {"prompt": "b", "id": 1}],
            ":2: input is missing, the row holds prompt, id; add it, or name the key by --data.input_key",
        ),
        (
            [{"input": "a"}, "", "{broken"],
            ":3:2: it is not JSON (Expecting property name enclosed in double quotes); mend it or remove it",
        ),
        (
            [[1]],
            ':1: the row is a list; it must be a mapping such as {"prompt": …, "cost": 0.5};'
            " mend it or remove it",
        ),
        ([{"input": 3}], ":1: input is 3; a prompt must be a text; mend the row or remove it"),
        ([{"input": " "}], ':1: input is " "; a prompt must be a text; mend the row or remove it'),
        (
            [{"input": [{"role": "user", "content": "hi"}]}],
            ":1: input is a list of messages; a prompt must be a text;"
            " add --data.apply_chat_template, which takes them",
        ),
    ],
)
@pytest.mark.parametrize("name", ["data.prompt_dataset", "rad.heldout"])
def test_broken_lines_of_prompts(job, lines, problem, name):
    file = job.folder / "other.jsonl"
    keep = (job.folder / "prompts.jsonl").read_text()
    job.write_prompts(*lines)
    (job.folder / "prompts.jsonl").rename(file)
    (job.folder / "prompts.jsonl").write_text(keep)
    assert preflight.input_problems(plan(job, f"--{name}", str(file))) == [f"--{name} {file}{problem}"]


def test_a_label_that_is_missing(job):
    found = preflight.input_problems(plan(job, "--data.label_key", "label"))
    file = job.folder / "prompts.jsonl"
    assert found == [
        f"--data.prompt_dataset {file}:1: label is missing, the row holds input; add it,"
        " or name the key by --data.label_key"
    ]


@pytest.mark.parametrize("label", [0, 1, True, False, 0.5, "", None, "Malware/Hacking"])
def test_scalars_are_labels(job, label):
    job.write_prompts({"input": "a", "label": label})
    assert preflight.input_problems(plan(job, "--data.label_key", "label")) == []


def test_a_watch_that_no_label_turns_on_is_said(job):
    job.write_prompts({"input": "a", "label": 1}, {"input": "b", "label": True}, {"input": "c", "label": ""})
    labelled = ("--data.label_key", "label")
    (note,) = preflight.notes(plan(job, *labelled))
    assert note.startswith(
        "the watch inverted is off: no prompt carries the label harmful, the labels are 1, true; name"
    )
    job.write_prompts({"input": "a", "label": "toxic"})
    assert preflight.notes(plan(job, *labelled, overrides=["watches.harmful_label=toxic"])) == []
    assert preflight.notes(plan(job, *labelled, overrides=["watches.inverted=off"])) == []


@pytest.mark.parametrize(("label", "shown"), [(["a"], "a list"), ({"a": 1}, "a mapping")])
def test_other_labels_are_refused_at_their_line(job, label, shown):
    job.write_prompts({"input": "a", "label": "b"}, {"input": "a", "label": label})
    file = job.folder / "prompts.jsonl"
    assert preflight.input_problems(plan(job, "--data.label_key", "label")) == [
        f"--data.prompt_dataset {file}:2: label is {shown}; a label must be a text, a number or a truth"
        " value; mend the row, or name another key by --data.label_key"
    ]


def test_message_lists_pass_with_the_chat_template_alone(job):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    job.write_prompts({"input": turns}, {"input": [{"content": "no role"}]})
    file = job.folder / "prompts.jsonl"
    assert preflight.input_problems(plan(job, "--data.apply_chat_template")) == [
        f"--data.prompt_dataset {file}:2: input is a list; its items must be messages with role and content;"
        " mend the row"
    ]


def test_csv_and_json_are_read_too(job):
    (job.folder / "p.csv").write_text("prompt,id\nhow?,1\n")
    (job.folder / "p.json").write_text('[{"input": "a"}, {"prompt": "b"}]')
    for name, problem in [
        ("p.csv", ":2: input is missing, the row holds prompt, id"),
        ("p.json", ": row 2: input is missing, the row holds prompt"),
    ]:
        file = job.folder / name
        assert preflight.input_problems(plan(job, "--data.prompt_dataset", str(file))) == [
            f"--data.prompt_dataset {file}{problem}; add it, or name the key by --data.input_key"
        ]
    right = plan(job, "--data.prompt_dataset", str(job.folder / "p.csv"), "--data.input_key", "prompt")
    assert preflight.input_problems(right) == []
    assert prompts.steps(right) == 1


def test_shares_of_data_sets_must_be_as_many(job):
    assert preflight.input_problems(plan(job, "--data.prompt_probs", "0.5,0.5")) == [
        "--data.prompt_probs is 0.5,0.5; it must be a number for each of the 1 data sets of"
        " --data.prompt_dataset, separated by commas; correct it, or leave it out"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def costs(queries): ...\n", "it defines costs; it must define cost_func(queries, prompts, labels)"),
        ("", "it defines nothing; it must define cost_func(queries, prompts, labels)"),
        ("from mine import scores as cost_func\n", None),
        ("from mine import *\n", None),
        ("cost_func = print\n", None),
        ("class Cost: ...\ncost_func = Cost()\n", None),
    ],
)
def test_a_cost_file_must_define_its_function(job, text, problem):
    (job.folder / "cost.py").write_text(text)
    expected = [f"cost.function is {job.folder / 'cost.py'}; {problem}"] if problem else []
    assert preflight.input_problems(plan(job)) == expected


def test_files_that_are_no_python_or_define_something_else(job):
    (job.folder / "cost.py").write_text("def cost_func(:\n")
    (job.folder / "reward.py").write_text("def score(queries): ...\n")
    (job.folder / "agent.py").write_text("class Agent: ...\n")
    agent = ("--train.agent_func_path", str(job.folder / "agent.py"))
    cost, *rest = preflight.input_problems(plan(job, *agent))
    assert cost.startswith(f"cost.function: {job.folder / 'cost.py'}:1: it is not Python (invalid syntax")
    assert rest == [
        f"--reward.remote_url is {job.folder / 'reward.py'}; it defines score; it must define"
        " reward_func(queries, prompts, labels)",
        f"--train.agent_func_path is {job.folder / 'agent.py'}; it defines Agent; it must define"
        " AgentExecutor",
    ]


def test_no_cost_at_all(job):
    assert preflight.input_problems(plan(job, cost=False)) == [
        "the profile medical names no cost; every run measures its answers by one; add"
        " --set cost.function=FILE.py, --set cost.model=FOLDER or --set cost.remote_url=http://…"
        " (--rad.set of python -m openrlhf_rad)"
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ("--rollout.n_samples_per_prompt", "1", "--train.batch_size", "4"),
            "rloo requires n_samples_per_prompt > 1; so OpenRLHF says",
        ),
        (
            ("--train.colocate_all", "--vllm.tensor_parallel_size", "2"),  # asserted once Ray is up
            "actor_num_nodes * actor_num_gpus_per_node must be equal to vllm_num_engines *"
            " vllm_tensor_parallel_size, got 1 and 2; so OpenRLHF says",
        ),
        (
            ("--train.partial_rollout_enable",),
            "--train.partial_rollout_enable requires --train.async_enable.; so OpenRLHF says",
        ),
        (
            ("--vllm.num_engines", "0"),
            "--vllm.num_engines is 0; reference costs are sampled by vLLM; use --vllm.num_engines 1 or more",
        ),
    ],
)
def test_what_the_run_would_refuse_minutes_later(job, words, text):
    assert preflight.input_problems(plan(job, *words)) == [text]


def test_flags_for_a_gpu_are_this_machine_s_problem(job, monkeypatch):
    monkeypatch.setenv("OPENRLHF_RAD_BACKEND", "cpu")
    made = plan(job, "--ds.packing_samples")
    assert preflight.input_problems(made) == []
    assert machine.problems(made) == ["--ds.packing_samples needs a GPU and there is none; leave it out"]
    monkeypatch.setenv("OPENRLHF_RAD_BACKEND", "gpu")
    assert machine.problems(made) == []


def test_a_folder_in_which_nothing_began_can_be_given_again(job):
    made = plan(job)
    RunFolder.create(made.out).write_profile(made.profile)
    (made.out / "train.log").write_text("it was refused")
    assert preflight.input_problems(made) == []


def test_a_prompt_file_that_is_not_there(job):
    (job.folder / "prompts.jsonl").unlink()
    file = job.folder / "prompts.jsonl"
    assert preflight.input_problems(plan(job)) == [
        f"--data.prompt_dataset {file}: there is no such file; check the path"
    ]


def test_a_model_of_a_hub_and_a_folder_that_holds_none(job):
    assert preflight.input_problems(plan(job, "--actor.model_name_or_path", "org/name")) == []
    (job.folder / "model" / "config.json").unlink()
    assert preflight.input_problems(plan(job)) == [
        f"--actor.model_name_or_path is {job.folder / 'model'}; the folder holds no config.json;"
        " name that of a Hugging Face model"
    ]


def test_a_cost_model_that_is_not_there(job):
    found = preflight.input_problems(plan(job, overrides=["cost.model=./no"]))
    assert found == [
        f"cost.model is {os.getcwd()}/no; there is no such folder; check it, or name one of a hub as org/name"
    ]


def test_no_reward(job):
    made = plan(job, "--algo.advantage.estimator", "gae")
    del made.flags["reward.remote_url"]
    assert preflight.input_problems(made) == [
        "no reward is named; OpenRLHF needs one; add --reward.remote_url FILE.py, an http:// address, or"
        " --reward.model_name_or_path MODEL"
    ]


def test_fewer_samples_than_particles(job):
    assert preflight.input_problems(plan(job, overrides=["transport.particles=8"])) == []
    assert preflight.input_problems(plan(job, overrides=["transport.particles=9"])) == [
        "transport.particles is 9; a rollout has 8 samples (--rollout.batch_size 4,"
        " --rollout.n_samples_per_prompt 2) and each particle needs one; write"
        " --set transport.particles=auto, or raise --rollout.batch_size to 5"
    ]


def test_a_folder_in_use(job):
    made = plan(job)
    made.out.mkdir()
    assert preflight.input_problems(made) == []
    (made.out / "notes.txt").write_text("mine")
    refused = (
        f"--out is {made.out}: it holds notes.txt, which is not a file of a run; a run writes only to an"
        " empty folder or its own; name another folder"
    )
    assert preflight.input_problems(made) == [refused]
    assert preflight.input_problems(plan(job, "--ckpt.load_enable")) == [refused]
    (made.out / "notes.txt").unlink()
    RunFolder(made.out).append_metrics({"step": 1})
    assert preflight.input_problems(made) == [
        f"--out is {made.out}; it holds a run; name a new one, or resume that run by -- --ckpt.load_enable"
    ]
    assert preflight.input_problems(plan(job, "--ckpt.load_enable")) == []


def test_a_folder_that_is_a_file(job):
    (job.folder / "run").write_text("")
    assert preflight.input_problems(plan(job)) == [
        f"--out is {job.folder / 'run'}: it is a file; a run needs a folder; name another"
    ]


def test_no_compiler(job, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    text = "g++ is not on the PATH; DeepSpeed compiles its CPU Adam (--ds.adam_offload); apt install g++"
    monkeypatch.setenv("OPENRLHF_RAD_BACKEND", "gpu")
    assert machine.problems(plan(job, "--ds.adam_offload")) == [text]
    assert machine.problems(plan(job)) == []
    monkeypatch.setenv("OPENRLHF_RAD_BACKEND", "cpu")  # whose Adam is torch's
    assert machine.problems(plan(job, "--ds.adam_offload")) == []


def test_a_full_disk(job, monkeypatch):
    """A disk with 299.9 MB cannot be made here, so its report is stood in for."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, 299_900_000))
    (job.folder / "model" / "model.safetensors").write_bytes(b"0" * 1_000_000)
    with pytest.raises(EnvironmentProblem) as error:
        preflight.check(plan(job))
    assert str(error.value) == (
        f"{job.folder}: 300 MB are free and the run may take 302 MB; free some space, or choose another disk"
        " by --out (the run) and OPENRLHF_RAD_CACHE (the assets)"
    )
    assert error.value.exit_code == 3


def test_an_untested_version(job, monkeypatch):
    """Another version cannot be installed beside the tested one, so its number is stood in for."""
    real = metadata.version
    other = {"openrlhf": "0.12.0"}
    monkeypatch.setattr("openrlhf_rad.words.version", lambda name: other.get(name) or real(name))
    assert machine.problems(plan(job)) == [
        "openrlhf 0.12.0 was not tested with openrlhf_rad, 0.11.2 and 0.11.1 were; install openrlhf==0.11.2,"
        " or take the risk with --rad.any_version"
    ]
    assert machine.problems(plan(job, "--rad.any_version")) == []


def test_a_ray_that_runs_already_is_a_note(job, monkeypatch):
    monkeypatch.setenv("OPENRLHF_RAD_BACKEND", "cpu")
    assert machine.notes(plan(job)) == []
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert machine.notes(plan(job)) == [
        "RAY_ADDRESS is 10.0.0.1:6379: the run joins that Ray, which must offer a virtual GPU for each"
        " model and vLLM engine; unset RAY_ADDRESS to let the run start its own"
    ]


def test_steps_are_counted_as_openrlhf_makes_them(job):
    job.write_prompts(*({"input": str(number)} for number in range(9)))
    assert prompts.steps(plan(job)) == 3
    assert prompts.steps(plan(job, "--data.max_samples", "8", "--train.num_episodes", "2")) == 4
    assert prompts.steps(plan(job, "--data.prompt_dataset", "org/prompts")) is None


@pytest.mark.parametrize(
    ("sizes", "words", "seed"),
    [
        ((1, 1), "0.5,0.5", 42),
        ((5, 40), "0.9,0.1", 42),
        ((700, 1300, 10), "0.2,0.3,0.5", 7),
        ((3000, 20), "0.99,0.01", 1),
    ],
)
def test_steps_of_blended_prompts_are_those_of_the_library_that_blends_them(job, sizes, words, seed):
    from datasets import Dataset, interleave_datasets

    names = [f"{job.folder}/part{number}.jsonl" for number in range(len(sizes))]
    for name, size in zip(names, sizes, strict=True):
        Path(name).write_text('{"input": "a"}\n' * size)
    blended = interleave_datasets(
        [Dataset.from_dict({"input": ["a"] * size}) for size in sizes],
        probabilities=[float(word) for word in words.split(",")],
        seed=seed,
        stopping_strategy="all_exhausted",
    )
    flags = [
        "--data.prompt_dataset",
        ",".join(names),
        "--data.prompt_probs",
        words,
        "--train.seed",
        str(seed),
    ]
    assert prompts.steps(plan(job, *flags, "--rollout.batch_size", "1")) == len(blended)
    assert prompts.steps(plan(job, *flags, "--rollout.batch_size", "1", "--data.max_samples", "2")) == 2


def test_steps_are_not_known_for_probabilities_that_cannot_be(job):
    path = job.folder / "part.jsonl"
    path.write_text('{"input": "a"}\n')
    for words in ("0.5", "0.5,0.4", "1,0", "a,b"):
        flags = ("--data.prompt_dataset", f"{path},{path}", "--data.prompt_probs", words)
        assert prompts.steps(plan(job, *flags)) is None


@pytest.fixture
def processor(monkeypatch, tmp_path):
    """A machine that is fast in float32: 40 GFLOP/s against 0.6."""
    found = Processor("a laptop", ("avx2",), 2, "2.13.0", 0.6, 40.0)
    monkeypatch.setenv("OPENRLHF_RAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENRLHF_RAD_BACKEND", "cpu")
    monkeypatch.delenv("OPENRLHF_RAD_DTYPE", raising=False)
    monkeypatch.setattr(machine, "measurement", lambda: found)
    monkeypatch.setattr("openrlhf_rad.processor.measurement", lambda: found)
    return found


def test_what_a_run_computes_in_and_how_long_it_takes_is_said(job, processor):
    format_line, time_line = machine.expectation(make(TrainOptions(preset="tiny", out=job.folder / "run")))
    assert format_line == (
        "models compute in float32 on a laptop, 2 cores: 1 GFLOP/s in bfloat16, 40 in float32"
    )
    parts = machine.seconds(PRESETS["tiny"], "float32", processor, with_assets=True)
    assert parts == {name: work.seconds + work.gflop / 40 for name, work in PRESETS["tiny"].work.items()}
    assert time_line.startswith(f"about {machine.duration(sum(parts.values()))} here, alone: assets ")
    # Three times the steps and no held-out answers.
    options = TrainOptions(preset="default", out=job.folder / "run")
    whole = machine.expected(make(options))
    flags = job.folder / "longer.yaml"
    flags.write_text("train.num_episodes: 3\nrad.heldout: null\n")
    longer = machine.expected(make(replace(options, config=flags)))
    assert longer == {
        name: spent * (3 if name == "training" else 1)
        for name, spent in whole.items()
        if name != "held-out answers"
    }
    assert machine.expectation(plan(job)) == [format_line]  # of another's job nobody knows how long it takes


@pytest.mark.parametrize(
    ("seconds", "words"), [(1, "5 s"), (12, "10 s"), (99, "100 s"), (100, "2 min"), (1400, "23 min")]
)
def test_a_duration_in_words(seconds, words):
    assert machine.duration(seconds) == words


def test_too_little_memory_for_float32(job, processor, monkeypatch):
    """A checkpoint of 1 GB: 500 million parameters, 16 GB in float32, 11 in bfloat16, and 3 for processes."""
    with open(job.folder / "model" / "model.safetensors", "wb") as file:
        file.truncate(10**9)
    memory = SimpleNamespace(available=15e9)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: memory)
    assert machine.problems(plan(job)) == [
        "15.0 GB of memory are free and this run in float32 may take 19.0 GB: 32 bytes for each of the"
        " policy's 500 million parameters and 3 GB for the processes; end other programs, take a smaller"
        " model, or set OPENRLHF_RAD_DTYPE=bfloat16 (less memory, slower here)"
    ]
    monkeypatch.setenv("OPENRLHF_RAD_DTYPE", "bfloat16")
    assert machine.problems(plan(job)) == []
    memory.available = 13.9e9
    (problem,) = machine.problems(plan(job))
    assert problem.endswith(
        "22 bytes for each of the policy's 500 million parameters and 3 GB for the processes; "
        "end other programs, take a smaller model"
    )


@pytest.fixture
def language_model(tmp_path):
    """A folder with the index of a language model, and a tokenizer; written byte by byte."""
    folder = tmp_path / "language-model"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1}')
    (folder / "tokenizer.json").write_text("{}")
    names = ("model.layers.0.mlp.weight", "lm_head.weight")
    header = {
        name: {"dtype": "F32", "shape": [3, 2], "data_offsets": [24 * i, 24 * i + 24]}
        for i, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(48))
    return folder


def test_a_model_without_the_head_that_rates_is_refused(job, language_model):
    random = "its files have no score.weight, so that its {}s would come from random numbers"
    with pytest.raises(ConfigError) as error:
        preflight.check(plan(job, overrides=[f"cost.model={language_model}"]))
    assert str(error.value) == (
        f"cost.model is {language_model}; {random.format('cost')}; beside its layers they have lm_head.weight"
        " (3, 2), and config.json says LlamaForCausalLM; name a model that was trained to score answers, or"
        " rate by cost.function, a Python file that asks this one"
    )
    words = ("--reward.model_name_or_path", str(language_model))
    without = plan(job, *words)
    without.flags.pop("reward.remote_url")
    with pytest.raises(ConfigError) as error:
        preflight.check(without)
    first = str(error.value).splitlines()[0]
    assert first.startswith(f"--reward.model_name_or_path is {language_model}; {random.format('reward')}")
    preflight.check(plan(job, *words))  # OpenRLHF does not load it beside a reward file


def test_the_dry_runs_of_both_commands_refuse_it(job, language_model, rad_train):
    words = ["--profile", "medical", "--set", f"cost.model={language_model}", "--out", str(job.folder / "r")]
    training = rad_train.start([*words, "--dry-run", "--", *job.flags], "")
    assert "would come from random numbers" in training.communicate()[1]
    assert training.returncode == 2
    for options in ([], ["--dry-run"]):
        (job.folder / "a.jsonl").write_text('{"prompt": "p", "answer": "a"}\n')
        sides = [f"--{side}={side}={job.folder}/a.jsonl" for side in ("baseline", "candidate")]
        command = [sys.executable, "-m", "openrlhf_rad.cli.rad", "eval", *sides, *words, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith(
            f"error: cost.model is {language_model}; its files have no score.weight"
        )
        assert not (job.folder / "r").exists()
