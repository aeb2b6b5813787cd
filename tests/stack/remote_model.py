"""A model folder with Python code that leaves a marker when it runs, and ways to load it; run as a script.

``python remote_model.py ray|engine FOLDER MARKER [trust]`` prints a JSON object: what each load said.
"""

import json
import sys
import warnings
from pathlib import Path

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path({marker!r}).write_text("executed")

class SecretConfig(LlamaConfig):
    model_type = "secret"

class SecretModel(LlamaForCausalLM):
    config_class = SecretConfig
"""


def write(folder: Path, marker: Path, plain: Path) -> None:
    """The plain checkpoint's files, as a model whose classes come as code."""
    folder.mkdir()
    for path in plain.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "modeling_secret.py").write_text(CODE.format(marker=str(marker)), encoding="utf-8")
    config = json.loads((plain / "config.json").read_text(encoding="utf-8"))
    classes = {"AutoConfig": "SecretConfig", "AutoModelForCausalLM": "SecretModel"}
    config |= {
        "model_type": "secret",
        "architectures": ["SecretModel"],
        "auto_map": {name: f"modeling_secret.{value}" for name, value in classes.items()},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def said(call) -> str:
    """What a call says: the type that it returns, or its error's last line."""
    try:
        return type(call()).__name__
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[-1]}"


def load(folder: str) -> dict[str, str]:
    """As OpenRLHF loads: with ``trust_remote_code=True``, in its own functions and outside them."""
    from openrlhf.utils.utils import get_tokenizer
    from transformers import AutoConfig, AutoModelForCausalLM

    trust = {"trust_remote_code": True}
    return {
        "config": said(lambda: AutoConfig.from_pretrained(folder, **trust)),
        "model": said(lambda: AutoModelForCausalLM.from_pretrained(folder, **trust)),
        "tokenizer": said(lambda: get_tokenizer(folder, None, "left", None)),
    }


def in_ray(folder: str) -> dict[str, str]:
    """The same loads in a task and in an actor of a real Ray, one worker process each."""
    import ray

    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        runtime_env={"worker_process_setup_hook": "openrlhf_rad.plugin.cpu.activate"},
    )
    try:
        return ray.get(ray.remote(load).remote(folder))
    finally:
        ray.shutdown()


def in_an_engine(folder: str) -> dict[str, str]:
    """vLLM's engine arguments as OpenRLHF gives them, and the model configuration that they make."""
    from vllm import AsyncEngineArgs

    arguments = AsyncEngineArgs(model=folder, trust_remote_code=True)
    return {
        "trust": str(arguments.trust_remote_code),
        "config": said(arguments.create_model_config),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    what, folder, marker, *trust = sys.argv[1:]
    from openrlhf_rad.plugin import cpu, workers

    workers.prepare(bool(trust))
    cpu.activate()
    found = in_ray(folder) if what == "ray" else in_an_engine(folder)
    print(json.dumps(found | {"executed": Path(marker).exists()}))
