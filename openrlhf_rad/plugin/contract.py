"""What the plugin takes for granted in OpenRLHF and under it, checked on their source files, without imports.

What that is stands in ``openrlhf.toml``. A package is read by its syntax tree, so that the check takes a
second, needs no GPU, and works on an unpacked archive as on an installed version.
tests/plugin/test_contract.py compares it with the imported modules.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from openrlhf_rad.plugin.command_line import KNOWN, LOOKED_AT, MODULE, Command, package_folder

#: Packages that the contract is about.
PACKAGES = ("openrlhf", "ray", "deepspeed", "vllm", "torch")
#: Module:function → its parameters.
SIGNATURES: dict[str, str] = {
    f"{module}:{name}": parameters
    for module, held in KNOWN["signatures"].items()
    for name, parameters in held.items()
}
#: All flags of OpenRLHF that the plugin cannot do without.
FLAGS = LOOKED_AT | {f"{part}.{name}" for part, names in KNOWN["flags"].items() for name in names.split()}


def broken(package: str, folder: Path) -> list[str]:
    """What of the contract a package's folder does not keep, one line each; empty when it keeps all."""
    return [*_signatures(package, folder), *_texts(package, folder), *_flags(package, folder)]


def size(package: str) -> int:
    """How many signatures, texts and flags the contract has for a package."""
    signatures = sum(name.startswith(f"{package}.") for name in SIGNATURES)
    texts = sum(len(held) for module, held in KNOWN["texts"].items() if module.startswith(f"{package}."))
    return signatures + texts + len(FLAGS) * (package == "openrlhf")


def _signatures(package: str, folder: Path) -> Iterator[str]:
    for name, expected in SIGNATURES.items():
        if not name.startswith(f"{package}."):
            continue
        module, path = name.split(":")
        owner, _, function = path.rpartition(".")
        node = (
            _method(module, owner, function, package, folder)
            if owner
            else _named(_tree(module, package, folder), function)
        )
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{module}.{path} is missing; the plugin calls or replaces it as ({expected})"
        elif (parameters := _written(node.args)) != expected:
            yield f"{module}.{path} takes ({parameters}); the plugin knows it as ({expected})"


def _texts(package: str, folder: Path) -> Iterator[str]:
    for module, texts in KNOWN["texts"].items():
        if module.startswith(f"{package}."):
            source = _source(module, package, folder)
            missing = [text for text in texts if text not in source]
            yield from (f"{module} does not hold {text!r}; the plugin relies on it" for text in missing)


def _flags(package: str, folder: Path) -> Iterator[str]:
    if package != "openrlhf":
        return
    try:
        known = Command(folder).flags
    except Exception as error:
        yield f"the parser of {MODULE} cannot be read ({type(error).__name__}: {error})"
        return
    missing = sorted(FLAGS - known.keys())
    yield from (f"--{flag} is not a flag of {MODULE}; the plugin reads it" for flag in missing)


def _method(module: str, owner: str, function: str, package: str, folder: Path) -> ast.AST | None:
    """A method, of the class itself or the first of its bases that has it; wherever the class comes from."""
    tree = _tree(module, package, folder)
    held = _named(tree, owner)
    if not isinstance(held, ast.ClassDef):
        imports = (node for node in ast.iter_child_nodes(tree) if isinstance(node, ast.ImportFrom))
        absolute = (node for node in imports if not node.level)
        origin = next((node.module for node in absolute if any(a.name == owner for a in node.names)), None)
        return _method(origin, owner, function, package, folder) if origin else None
    bases = (base.id for base in held.bases if isinstance(base, ast.Name))
    inherited = (_method(module, base, function, package, folder) for base in bases)
    return _named(held, function) or next(filter(None, inherited), None)


def _named(tree: ast.AST, name: str) -> ast.AST | None:
    nodes = (node for node in ast.iter_child_nodes(tree) if getattr(node, "name", None) == name)
    return next(nodes, None)


def _written(arguments: ast.arguments) -> str:
    plain = [*arguments.posonlyargs, *arguments.args]
    required = len(plain) - len(arguments.defaults)
    words = [argument.arg + "=" * (place >= required) for place, argument in enumerate(plain)]
    words += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        words.append(argument.arg + "=" * (default is not None))
    words += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return " ".join(words)


@lru_cache(maxsize=64)
def _source(module: str, package: str, folder: Path) -> str:
    path = folder.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text(encoding="utf-8") if module.startswith(package) and file.is_file() else ""


def _tree(module: str, package: str, folder: Path) -> ast.AST:
    return ast.parse(_source(module, package, folder))


def main(words: list[str]) -> int:
    """Check an unpacked ``openrlhf`` folder, or the installed one; print what is broken, return 1 for any."""
    folder = Path(words[0]) if words else package_folder("openrlhf")
    if folder is None or not (folder / "__init__.py").is_file():
        print(f"{folder}: there is no package openrlhf; name the folder that holds its __init__.py")
        return 1
    problems = broken("openrlhf", folder.resolve())
    print("\n".join(problems) or f"{folder}: all {size('openrlhf')} signatures, texts and flags are as known")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
