"""A profile's text to one whole document: bases merged in, the short form spelled out, paths absolute."""

from __future__ import annotations

from openrlhf_rad.errors import did_you_mean
from openrlhf_rad.profile.build import KEYS
from openrlhf_rad.profile.document import Document, parse
from openrlhf_rad.profile.extends import Base, extend
from openrlhf_rad.profile.files import Found, find
from openrlhf_rad.profile.paths import path_keys, resolve_path

# A mapping under an unknown key that is a risk makes it a short form.
_RISKS = ("measure", "piecewise", "mixture")


def read_document(found: Found) -> Document:
    """The document of a text and all that it extends.

    Raises:
        ProfileError: text that is not YAML; all else is left to the checks of the whole.
    """
    base = _read(found)
    extend(base, _beside)
    return base.document


def _beside(name: str, base: Base) -> Base:
    return _read(find(name, beside=base.folder, source=base.document.source))


def _read(found: Found) -> Base:
    document = parse(found.text, found.source)
    expand_short_form(document)
    for key in path_keys(document.data):
        if fault := resolve_path(document.data, key, found.folder):
            document.problems.append(f"{document.place(key)}: {key} {fault}")
    return Base(document, found.folder, found.identity)


def expand_short_form(document: Document) -> None:
    """Turn the short form `medical: cvar α=0.9` into the long one, in place."""
    data = document.data
    if not isinstance(data, dict) or len(data) != 1:
        return
    ((key, value),) = data.items()
    risk = isinstance(value, str) or (isinstance(value, dict) and any(name in value for name in _RISKS))
    # A name close to a key is far likelier a typo of it than a profile of that name.
    if key in KEYS or did_you_mean(key, KEYS) or not risk:
        return
    document.data = {"name": key, "risk": value}
    place = document.place(key, key=True)
    below = {
        f"risk.{path.removeprefix(f'{key}.')}": held
        for path, held in document.places.items()
        if path.startswith(f"{key}.")
    }
    document.places.update({"name": place, "risk": document.place(key), **below})
