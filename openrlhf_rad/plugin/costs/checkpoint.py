"""What the files of a rating model hold, read from their indexes: no torch, and no weight is loaded.

transformers fills a weight that a checkpoint has not with random numbers and warns. A rating model without
its head then rates by chance, so whatever is missing is refused here, before anything starts.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Role = Literal["cost", "reward", "critic"]
Shape = tuple[int, ...] | None
#: OpenRLHF's name of the head, where neither ``config.json`` nor ``--ds.value_head_prefix`` gives another.
HEAD = "score"
#: In transformers' order: the first that is there is loaded.
_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_UNREADABLE = (pickle.UnpicklingError, zipfile.BadZipFile)
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_SHOWN = 4
_INSTEAD = {
    "cost": "rate by cost.function, a Python file",
    "reward": "reward by --reward.remote_url (rad eval: --reward), a Python file",
    "critic": "leave --critic.model_name_or_path out",
}


@dataclass(frozen=True)
class RatingModel:
    """A model with a scalar head.

    Attributes:
        place: where the user named it, as ``cost.model``. location: a folder, or its name on a hub.
    """

    place: str
    location: str
    role: Role = "cost"


@dataclass(frozen=True)
class Index:
    """The weights of a checkpoint by name, with shapes as far as they are known, and its configuration."""

    shapes: Mapping[str, Shape]
    config: Mapping[str, Any] = field(default_factory=dict)
    broken: tuple[str, ...] = ()


def weight_problems(model: RatingModel, head: str = HEAD) -> list[str]:
    """Why a model cannot rate: no head, another one, files or layers that are missing.

    Empty too for a model of a hub that is not here and cannot be asked; its loading looks again.
    """
    index = index_of(model.location)
    if index is None:
        return []
    named = f"{model.place} is {model.location}"
    if index.broken:
        return [f"{named}; {what}" for what in index.broken]
    head = str(index.config.get("value_head_prefix", head))
    return [
        f"{named}; {what}; {fix}" for what, fix in (*_head(index, head, model.role), *lacking_layers(index))
    ]


def _head(index: Index, head: str, role: Role) -> Iterator[tuple[str, str]]:
    name, bias = f"{head}.weight", f"{head}.bias"
    if name not in index.shapes:
        others = _others(index)
        shown = ", ".join(_shown(other, index) for other in others[:_SHOWN]) or "nothing"
        kind = ", ".join(index.config.get("architectures") or ()) or "no architecture"
        what = (
            f"its files have no {name}, so that its {'values' if role == 'critic' else f'{role}s'} would come"
            f" from random numbers; beside its layers they have {shown}, and config.json says {kind}"
        )
        yield what, _advice(index, others, role)
        return
    shape = index.shapes[name]
    if shape is not None and (len(shape) != 2 or shape[0] != 1):
        what = f"its {name} has the shape {shape}; a head that rates has one output, (1, hidden size)"
        yield what, f"name a model with one, or {_INSTEAD[role]} that makes one number of them"
    if bias in index.shapes:
        yield (
            f"its head has a bias, {bias}, which OpenRLHF's head has not and would leave out",
            f"save it without (0 changes nothing), or {_INSTEAD[role]} that loads it with its own class",
        )


def _others(index: Index) -> list[str]:
    """Weights that belong to no layer and not to the backbone around the layers: heads, most often."""
    layered = {name.partition(".")[0] for name in index.shapes if _LAYER.search(name)}
    return sorted(
        (name for name in index.shapes if name.partition(".")[0] not in layered),
        key=lambda name: ("head" not in name and not name.startswith(("classifier", "score")), name),
    )


def _shown(name: str, index: Index) -> str:
    shape = index.shapes[name]
    return name if shape is None else f"{name} {shape}"


def _advice(index: Index, others: list[str], role: Role) -> str:
    for name in others:
        prefix, shape = name.removesuffix(".weight"), index.shapes[name]
        if name.endswith(".weight") and "." not in prefix and shape is not None and shape[:1] == (1,):
            if f"{prefix}.bias" in index.shapes:
                return f"{prefix} has a bias, which OpenRLHF's head has not: {_INSTEAD[role]} that loads it"
            return f'if {prefix} is its score, write "value_head_prefix": "{prefix}" into its config.json'
    if any(name.startswith("classifier") for name in others):
        return f"it is a classifier: {_INSTEAD[role]} that gives its probability of harm"
    if role == "critic":
        return f"{_INSTEAD[role]}, or name the policy itself, whose head is then learnt from the start"
    return f"name a model that was trained to score answers, or {_INSTEAD[role]} that asks this one"


def lacking_layers(index: Index) -> Iterator[tuple[str, str]]:
    """Layers that config.json counts and the files have not: (what, fix)."""
    count = index.config.get("num_hidden_layers")
    held = {int(found[1]) for name in index.shapes if (found := _LAYER.search(name))}
    lacking = sorted(set(range(count)) - held) if isinstance(count, int) and held else []
    if lacking:
        some = ", ".join(map(str, lacking[:_SHOWN]))
        what = f"its config.json says {count} layers and its files have none with the number {some}"
        yield f"{what}{', …' if len(lacking) > _SHOWN else ''}", "complete its files"


def index_of(location: str) -> Index | None:
    """Of a folder, of a snapshot in the hub's cache, or as the hub says; None where there is no knowing."""
    folder = Path(location).expanduser()
    if not folder.is_dir():
        snapshot = snapshot_of(location)
        if snapshot is None or not any((snapshot / name).exists() for name in _FILES):
            return _of_hub(location)
        folder = snapshot
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # said by whoever looks at folders
    name = next((name for name in _FILES if (folder / name).exists()), None)
    if name is None:
        adapter = (folder / "adapter_config.json").exists()
        fix = "it holds an adapter alone; merge it into its model" if adapter else "complete the folder"
        return Index({}, config, (f"the folder holds no weights ({', '.join(_FILES)}); {fix}",))
    shapes: dict[str, Shape] = {}
    broken: list[str] = []
    for file, names in _shards(folder / name, broken).items():
        held = _weights(folder / file, broken)
        if held is not None and (lost := sorted(set(names) - set(held))):
            broken.append(f"{name} says that {file} holds {lost[0]}, which it does not; complete the folder")
        shapes |= dict.fromkeys(names) | (held or {})
    return Index(shapes, config, tuple(broken)) if shapes or broken else None


def weights_of(location: str) -> list[Path]:
    """The files with the weights of a model that is here; none where it is not."""
    folder = Path(location).expanduser()
    folder = folder if folder.is_dir() else snapshot_of(location) or folder
    name = next((name for name in _FILES if (folder / name).exists()), None)
    return [folder / file for file in _shards(folder / name, [])] if name else []


def _shards(path: Path, broken: list[str]) -> dict[str, list[str]]:
    """Files of weights, each with the weights that an index puts there."""
    if path.suffix != ".json":
        return {path.name: []}
    found: dict[str, list[str]] = {}
    try:
        for name, file in json.loads(path.read_text(encoding="utf-8"))["weight_map"].items():
            found.setdefault(file, []).append(name)
    except (ValueError, KeyError, TypeError, AttributeError):
        broken.append(f"the file {path.name} is no index of weights; fetch it again")
    return found


def _weights(path: Path, broken: list[str]) -> dict[str, Shape] | None:
    """The weights of one file; None where its format does not say."""
    if not path.is_file():
        broken.append(f"the file {path.name} is missing; complete the folder")
        return None
    try:
        return _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    except (ValueError, LookupError, TypeError, AttributeError, EOFError, *_UNREADABLE):
        broken.append(f"the file {path.name} is torn, or stands for a larger one (Git LFS); fetch it again")
        return None


def _safetensors(path: Path) -> dict[str, Shape]:
    """The header: its length in 8 bytes, then JSON. Raises ValueError where the file ends elsewhere."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise ValueError
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    if 8 + length + max((held["data_offsets"][1] for held in header.values()), default=0) != size:
        raise ValueError
    return {name: tuple(held["shape"]) for name, held in header.items()}


def _torch(path: Path) -> dict[str, Shape] | None:
    """Names and shapes in torch's zip format; None for the format before 1.6."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            if file.read(1) != b"\x80":  # a pickle's first byte
                raise ValueError
        return None
    with zipfile.ZipFile(path) as archive:
        inner = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if inner is None:
            raise ValueError
        with archive.open(inner) as file:
            held = _Shapes(file).load()
    if not isinstance(held, dict):
        raise ValueError
    return {str(name): value if isinstance(value, tuple) else None for name, value in held.items()}


class _Shapes(pickle.Unpickler):
    """Reads the pickle of a state dict and runs nothing of it: tensors become their shapes."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        rebuild: dict[str, Callable[..., Any]] = {
            "_rebuild_tensor": lambda _storage, _offset, size, *_: tuple(size),
            "_rebuild_tensor_v2": lambda _storage, _offset, size, *_: tuple(size),
            "_rebuild_parameter": lambda data, *_: data,
        }
        return rebuild.get(name, _Other) if module == "torch._utils" else _Other

    def persistent_load(self, pid: Any) -> None:  # noqa: ARG002 - the storage itself
        return None


class _Other:
    """Stands for whatever else a pickle names."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def snapshot_of(location: str) -> Path | None:
    """A hub's model in this machine's cache."""
    if not _HUB_NAME.fullmatch(location):
        return None
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - not in the light install
    except ImportError:
        return None
    try:
        return Path(snapshot_download(location, local_files_only=True))
    except (OSError, ValueError):
        return None


def _of_hub(location: str) -> Index | None:
    """What the hub says, which reads the heads of the files there; None where it cannot be asked."""
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "on", "yes", "true"}
    if offline or not _HUB_NAME.fullmatch(location):
        return None
    try:
        from huggingface_hub import get_safetensors_metadata, hf_hub_download  # noqa: PLC0415
    except ImportError:
        return None
    try:
        metadata = get_safetensors_metadata(location)
        config = json.loads(Path(hf_hub_download(location, "config.json")).read_text(encoding="utf-8"))
    except Exception:  # whatever hinders: the loading looks again
        return None
    files = metadata.files_metadata.values()
    return Index({name: tuple(one.shape) for file in files for name, one in file.tensors.items()}, config)
