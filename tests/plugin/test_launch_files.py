"""docs/launch and the commands of docs/scale.md: shells, parsers and pins take them as they stand.

The scripts run for real, with recorders in place of a cluster's commands; what they would start goes through
rad-train's own dry run, OpenRLHF's parser and RAD's checks.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from openrlhf_rad.cli import plan as planning
from openrlhf_rad.cli.plan import TrainOptions
from openrlhf_rad.cli.train import app
from ray.scripts.scripts import cli as ray_cli
from safetensors.torch import save_file
from typer.testing import CliRunner

from openrlhf_rad import __version__
from openrlhf_rad.plugin.arguments import parse
from openrlhf_rad.plugin.compatibility import TESTED, adapt, check_arguments
from openrlhf_rad.runs.folder import RunFolder

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "docs" / "launch"
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)

#: Each adds its name and words to $CALLS, in one write; then does what the script needs of it.
RECORD = 'line=$(printf "%s\\x1f" "$(basename "$0")" "$@")\necho "$line" >> "$CALLS"\n'
COMMANDS = {
    "rad-train": "trap 'exit 130' TERM\n"
    'until (($(grep -c "^ray.start" "$CALLS") >= ${STARTS:-0})); do sleep 0.02; done\n'
    '[[ ${SLOW:-} ]] || exit 0\ntouch "$CALLS.training"\nwhile :; do sleep 0.05; done\n',
    "scontrol": "[[ $1 == show ]] && seq -f 'node%g' 1 ${SLURM_JOB_NUM_NODES}\nexit 0\n",
    "hostname": "echo 10.0.0.1 10.1.0.1\n",
    "ray": "[[ $1 == start ]] && exec sleep 30\nexit 0\n",
    "srun": 'while [[ $1 == --* ]]; do shift; done\nexec "$@"\n',
}


@pytest.fixture
def cluster(tmp_path):
    """Runs a script where the cluster's commands are recorders; gives the calls by command."""
    folder, calls = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    for name, rest in COMMANDS.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{RECORD}{rest}")
        (folder / name).chmod(0o755)
    shared = tmp_path / "shared"
    for model in ("policy", "reward", "cost"):
        (shared / "models" / model).mkdir(parents=True)
        (shared / "models" / model / "config.json").write_text("{}")
        (shared / "models" / model / "tokenizer.json").write_text("{}")
        save_file({"score.weight": torch.zeros(1, 4)}, shared / "models" / model / "model.safetensors")
    for name in ("prompts", "heldout"):
        (shared / f"{name}.jsonl").write_text('{"input": "a prompt"}\n' * 4)

    def start(script, **variables):
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))},
            **{name: str(value) for name, value in variables.items()},
            "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
            "CALLS": str(calls),
            "SHARED": str(shared),
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(["bash", str(script)], env=environment, cwd=tmp_path, **pipes)

    def run(script, **variables):
        process = start(script, **variables)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output.decode(), made()

    def made():
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [line.rstrip("\x1f").split("\x1f") for line in lines]

    run.start, run.made, run.shared, run.calls = start, made, shared, calls
    return run


def training(calls):
    (words,) = [words[1:] for words in calls if words[0] == "rad-train"]
    return words


def options_of(words):
    """What rad-train makes of its words: options before --, OpenRLHF's flags behind."""
    own, flags = words[: words.index("--")], words[words.index("--") + 1 :]
    named = dict(zip(own[::2], own[1::2], strict=True))
    assert set(named) == {"--profile", "--out", "--set"}
    return TrainOptions(
        profile=named["--profile"], out=Path(named["--out"]), overrides=[named["--set"]], words=flags
    )


@pytest.mark.parametrize("script", ["train.sh", "slurm.sh"])
def test_the_shell_reads_them(script):
    subprocess.run(["bash", "-n", LAUNCH / script], check=True)


def test_rad_train_takes_the_command(cluster, monkeypatch):
    code, output, calls = cluster(LAUNCH / "train.sh")
    assert (code, output) == (0, "")
    words = training(calls)
    place = words.index("--")
    monkeypatch.setenv("OPENRLHF_RAD_BACKEND", "gpu")
    done = CliRunner().invoke(app, [*words[:place], "--dry-run", *words[place:]])
    assert done.exit_code == 0, done.output
    assert "error:" not in done.output
    assert "--ckpt.load_enable" in done.output


@pytest.mark.parametrize(("nodes", "gpus", "parallel"), [(1, 8, 1), (8, 8, 2), (128, 8, 4), (2, 4, 1)])
def test_openrlhf_and_rad_take_its_flags_and_every_gpu_is_used(nodes, gpus, parallel, cluster, openrlhf_args):
    _, _, calls = cluster(LAUNCH / "train.sh", NODES=nodes, GPUS=gpus, TP=parallel)
    plan = planning.make(options_of(training(calls)))
    RunFolder.create(plan.out).write_profile(plan.profile)
    options, rest = parse(plan.command[3:])
    args = openrlhf_args(*rest, settled=True)
    adapt(args)
    check_arguments(args, options)
    groups = [(group.num_nodes, group.num_gpus_per_node) for group in (args.actor, args.ref, args.reward)]
    assert [*groups, (options.cost_nodes, options.cost_gpus_per_node)] == [(nodes, gpus)] * 4
    assert args.vllm.num_engines * args.vllm.tensor_parallel_size == nodes * gpus
    samples = args.rollout.batch_size * args.rollout.n_samples_per_prompt
    assert args.train.batch_size == samples
    # OpenRLHF refuses fewer micro-batches than actors.
    assert samples / args.rollout.micro_batch_size >= nodes * gpus
    assert samples % (args.train.micro_batch_size * nodes * gpus) == 0
    assert args.ckpt.load_enable
    assert args.ckpt.save_steps > 0


def test_without_a_cluster_the_command_starts_no_ray_of_its_own(cluster):
    """RAY_ADDRESS is auto unless a job has set it, and auto finds a cluster or fails."""
    shown = LAUNCH / "train.sh"
    text = shown.read_text()
    assert "export RAY_ADDRESS=${RAY_ADDRESS:-auto}" in text
    assert text.index("export RAY_ADDRESS") < text.index("exec rad-train")


SLURM = {"SLURM_JOB_ID": 4711, "SLURM_JOB_NODELIST": "node[1-3]", "SLURM_JOB_NUM_NODES": 3}
SLURM |= {"SLURM_GPUS_PER_NODE": "h100:8", "SLURM_CPUS_PER_TASK": 64, "SLURM_SUBMIT_DIR": ROOT}


def test_slurm_starts_ray_on_every_node_and_the_command_on_the_first(cluster):
    code, output, calls = cluster(LAUNCH / "slurm.sh", **SLURM, STARTS=2)
    assert code == 0, output
    address = "10.0.0.1:24711"
    steps = [words for words in calls if words[0] == "srun"]
    head = next(words for words in steps if "--head" in words)
    others = next(words for words in steps if f"--address={address}" in words)
    assert "--nodelist=node1" in head
    assert {"--nodes=2", "--ntasks=2", "--exclude=node1"} <= set(others)
    assert "--nodelist=node1" in next(words for words in steps if "bash" in words)
    for words in (head, others):
        start = words[words.index("ray") + 1 :]
        context = ray_cli.commands["start"].make_context("start", start[1:])
        assert context.params["num_gpus"] == 8
        assert context.params["block"]
    made = planning.make(options_of(training(calls)))
    assert made.out == cluster.shared / "runs" / "slurm-4711"
    assert made.flags["actor.num_nodes"] == ["3"]
    assert made.flags["vllm.num_engines"] == ["24"]
    assert ["scontrol", "requeue", "4711"] not in calls


def test_slurm_hands_on_the_commands_failure_and_one_node_has_no_others(cluster):
    code, output, calls = cluster(LAUNCH / "slurm.sh", **{**SLURM, "SLURM_JOB_NUM_NODES": 1})
    assert code == 0, output
    assert not [words for words in calls if words[0] == "srun" and "--exclude=node1" in words]
    (cluster.calls.parent / "bin" / "rad-train").write_text("#!/usr/bin/env bash\nexit 3\n")
    assert cluster(LAUNCH / "slurm.sh", **SLURM)[0] == 3


def test_slurm_out_of_time_stops_the_command_and_puts_the_job_into_the_queue_again(cluster):
    process = cluster.start(LAUNCH / "slurm.sh", **SLURM, SLOW="yes")
    running = Path(f"{cluster.calls}.training")
    deadline = time.monotonic() + 30
    while not running.exists():
        assert time.monotonic() < deadline, cluster.made()
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)  # --signal=B:USR1@300
    process.communicate(timeout=30)
    assert ["scontrol", "requeue", "4711"] in cluster.made()
    header = (LAUNCH / "slurm.sh").read_text()
    for option in ("--requeue", "--signal=B:USR1@300", "--open-mode=append", "--ntasks-per-node=1"):
        assert f"#SBATCH {option}\n" in header


#: KubeRay's API, ray.io/v1: the fields of these kinds that a manifest may hold.
RAYJOB = {"activeDeadlineSeconds", "backoffLimit", "clusterSelector", "entrypoint", "entrypointNumCpus"}
RAYJOB |= {"entrypointNumGpus", "entrypointResources", "metadata", "rayClusterSpec", "runtimeEnvYAML"}
RAYJOB |= {"shutdownAfterJobFinishes", "submissionMode", "submitterConfig", "submitterPodTemplate", "suspend"}
RAYJOB |= {"ttlSecondsAfterFinished"}
GROUP = {"rayStartParams", "template", "groupName", "replicas", "minReplicas", "maxReplicas"}


@pytest.fixture
def rayjob():
    return yaml.safe_load((LAUNCH / "rayjob.yaml").read_text(encoding="utf-8"))


def groups_of(rayjob):
    cluster = rayjob["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def pin(package):
    text = (ROOT / "requirements" / "cpu.txt").read_text(encoding="utf-8")
    return re.search(rf"^{package}==(.+)$", text, re.MULTILINE).group(1)


def test_the_rayjob_has_the_fields_that_kuberay_asks_for(rayjob):
    assert (rayjob["apiVersion"], rayjob["kind"]) == ("ray.io/v1", "RayJob")
    assert rayjob["metadata"]["name"]
    assert set(rayjob["spec"]) <= RAYJOB
    assert set(rayjob["spec"]["rayClusterSpec"]) == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    for group in groups_of(rayjob):
        assert set(group) <= GROUP
        (container,) = group["template"]["spec"]["containers"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in group["template"]["spec"]["volumes"]}
    for worker in rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        assert worker["groupName"]
        assert worker["replicas"] == worker["minReplicas"] == worker["maxReplicas"]


def test_the_rayjob_asks_for_the_gpus_that_its_command_uses(rayjob, cluster):
    words = shlex.split(rayjob["spec"]["entrypoint"])
    assert (words[0], words[-2]) == ("env", "bash")
    variables = dict(word.split("=", 1) for word in words[1:-2])
    workers = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert int(variables["NODES"]) == 1 + sum(worker["replicas"] for worker in workers)
    for group in groups_of(rayjob):
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == variables["GPUS"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert variables["SHARED"] in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert variables["OUT"].startswith(variables["SHARED"] + "/")
    home, _, script = words[-1].partition("/docs/")
    assert (ROOT / "docs" / script).is_file()
    assert f"COPY --chown=ray . {home}\n" in (LAUNCH / "Dockerfile").read_text(encoding="utf-8")


def test_versions_are_the_pins(rayjob):
    ray_version = pin("ray")
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == ray_version
    dockerfile = (LAUNCH / "Dockerfile").read_text(encoding="utf-8")
    python = f"{sys.version_info.major}{sys.version_info.minor}"
    assert f"FROM rayproject/ray:{ray_version}-py{python}-gpu\n" in dockerfile
    assert f"vllm=={TESTED['vllm'][0]} " in dockerfile
    version = __version__.partition(".dev")[0]
    image = f"registry.example/openrlhf-rad:{version}-ray{ray_version}"
    assert f"-t {image} " in dockerfile
    for group in groups_of(rayjob):
        assert [one["image"] for one in group["template"]["spec"]["containers"]] == [image]


def commands():
    """Each command line of the page's shell blocks."""
    for block in BLOCKS:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def test_the_pages_commands_are_known_and_name_files_that_are_there():
    known = {"ray", "bash", "sbatch", "kubectl", "docker", "python", "env"}
    seen = set()
    for words in commands():
        bare = [word for word in words if not re.fullmatch(r"[A-Z]+=\S*", word)]
        assert bare[0] in known, words
        seen.add(bare[0])
        for word in bare:
            if "docs/" in word or word.startswith("benchmarks/"):
                path = word.split("openrlhf_rad/")[-1]
                assert (ROOT / path).exists(), word
    assert {"ray", "bash", "sbatch", "kubectl", "docker", "python"} <= seen
    for block in BLOCKS:
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_ray_reads_the_pages_commands_and_the_job_ends_in_the_script():
    starts = [words[2:] for words in commands() if words[:2] == ["ray", "start"]]
    assert [("--head" in words) for words in starts] == [True, False]
    for words in starts:
        assert ray_cli.commands["start"].make_context("start", list(words)).params["num_gpus"] == 8
    (job,) = [words[3:] for words in commands() if words[:3] == ["ray", "job", "submit"]]
    submit = ray_cli.commands["job"].commands["submit"]
    entry = list(submit.make_context("submit", list(job)).params["entrypoint"])
    assert entry[0] == "env"
    assert entry[-2:] == ["bash", "/shared/openrlhf_rad/docs/launch/train.sh"]
    # OpenRLHF gives these itself, and Ray refuses a variable that both name.
    assert not any(word.startswith("--runtime-env") for word in job)
