"""Touch point 7: OpenRLHF knows bfloat16 and float16 alone; most processors are fast in float32.

Models, DeepSpeed and vLLM compute in the format that :mod:`openrlhf_rad.processor` has settled. What is saved
is bfloat16 in any case, as on a GPU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openrlhf_rad.files import write_atomically
from openrlhf_rad.processor import number_format, torch_dtype


def patch_models(module: Any) -> None:
    """Load models in the number format where ``--ds.param_dtype`` is bf16, its default."""
    convert = module.convert_to_torch_dtype

    def converted(param_dtype: str) -> Any:
        return torch_dtype() if param_dtype == "bf16" else convert(param_dtype)

    module.convert_to_torch_dtype = converted


def of_deepspeed(config: dict[str, Any]) -> dict[str, Any]:
    """DeepSpeed's configuration for the number format; float32 is what it does where nothing is enabled."""
    if number_format() == "float32":
        config["bf16"]["enabled"] = False
    return config


def write_as_bfloat16(folder: Path) -> None:
    """Round the float32 weights of a saved model to bfloat16, file by file, and say so in its config."""
    import torch  # noqa: PLC0415 - in every process of a run, but not in those that only activate the backend
    from safetensors import safe_open  # noqa: PLC0415
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    for path in folder.glob("*.safetensors"):
        weights = load_file(path)
        if all(tensor.dtype != torch.float32 for tensor in weights.values()):
            continue
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        rounded = {
            name: tensor.bfloat16() if tensor.dtype == torch.float32 else tensor
            for name, tensor in weights.items()
        }
        partial = path.with_suffix(".partial")
        save_file(rounded, partial, metadata=metadata)
        partial.replace(path)
    config = folder / "config.json"
    if config.is_file():
        text = config.read_text(encoding="utf-8")
        settings = json.loads(text)
        for key in ("dtype", "torch_dtype"):
            if settings.get(key) == "float32":
                settings[key] = "bfloat16"
        if settings != json.loads(text):
            write_atomically(config, json.dumps(settings, indent=2, sort_keys=True) + "\n")
