"""Users' Python files, loaded alike wherever a cost or reward function is called."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)


def function_of(path: str, name: str, what: str, error: type[Exception]) -> Callable[..., Any]:
    """The function ``name(queries, prompts, labels)`` of a Python file.

    Args:
        what: the file's part in a message, as ``cost function``.

    Raises:
        error: the file is not there, does not load, or has no such function.
    """
    if not Path(path).is_file():
        raise error(f"{what} {path}: there is no such file; give the path of a Python file")
    try:
        module = load(path)
    except Exception as cause:
        raise error(f"{what} {path} does not load: {type(cause).__name__}: {cause}") from cause
    function = getattr(module, name, None)
    if not callable(function):
        raise error(f"{what} {path} has no {name}; define {name}(queries, prompts, labels)")
    return function  # type: ignore[no-any-return]


def definition_problems(
    place: str, path: str, name: str, arguments: str = "(queries, prompts, labels)"
) -> Iterator[str]:
    """Whether a Python file defines a name, without running it."""
    try:
        tree = ast.parse(Path(path).read_bytes(), path)
    except FileNotFoundError:
        yield f"{place} is {path}; there is no such file; it must define {name}{arguments}"
        return
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        yield f"{place}: {path}{f':{line}' if line else ''}: it is not Python ({error}); correct it"
        return
    held = {
        each.id for each in ast.walk(tree) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }
    held |= {getattr(each, "name", "") for each in ast.walk(tree) if isinstance(each, _DEFINITIONS)}
    imported = [each for node in ast.walk(tree) if isinstance(node, _IMPORTS) for each in node.names]
    held |= {each.asname or each.name for each in imported}
    if name not in held and "*" not in held:
        functions = ", ".join(node.name for node in tree.body if isinstance(node, _DEFINITIONS)) or "nothing"
        yield f"{place} is {path}; it defines {functions}; it must define {name}{arguments}"


def load(path: str) -> ModuleType:
    """The file as a module that Python knows by name, as an import of it would be.

    Dataclasses with postponed annotations look their module up; processes of a pool, however they are
    started, import it to find its functions; and the file may import what lies beside it.

    Raises:
        ImportError: the name does not end in ``.py``; whatever the file raises.
    """
    file = Path(path).resolve()
    if file.suffix != ".py":
        raise ImportError("its name must end in .py")
    folder = str(file.parent)
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that nothing that is installed is shadowed
    name = _name(file)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    held = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if held is None:
            del sys.modules[name]
        else:
            sys.modules[name] = held
        raise
    return module


def _name(file: Path) -> str:
    """The file's own name where an import of it finds the file, else one that nothing else has.

    Such a one is known here alone: a process of a pool finds it when it is forked, not when it is spawned.
    """
    if file.stem.isidentifier():
        importlib.invalidate_caches()
        held = sys.modules.get(file.stem)
        try:
            found = importlib.util.find_spec(file.stem) if held is None else held.__spec__
        except (ImportError, ValueError):
            found = None
        if found is not None and found.origin and Path(found.origin).resolve() == file:
            return file.stem
    return f"rad_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
