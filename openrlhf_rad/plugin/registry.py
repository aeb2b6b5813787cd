"""How a class takes the place of one of OpenRLHF's Ray actors."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import ray


def plain_class(module: ModuleType, name: str) -> Any:
    """The Python class behind ``@ray.remote class name`` in ``module``, the same at each call."""
    actor_class = getattr(module, name)
    return getattr(actor_class, "openrlhf_class", None) or actor_class.__ray_metadata__.modified_class


def register(module: ModuleType, name: str, replacement: type, *bound: Any, **options: Any) -> None:
    """Put ``replacement`` as a Ray actor under ``module.name``, where OpenRLHF looks it up.

    Args:
        bound: leading arguments for the constructor, before those that OpenRLHF gives.
        options: options of ``ray.remote``.
    """
    original = plain_class(module, name)
    actor_class = ray.remote(**options)(replacement) if options else ray.remote(replacement)
    setattr(module, name, BoundActor(actor_class, original, bound))


class BoundActor:
    """A Ray actor class whose first constructor arguments are already given."""

    def __init__(self, actor_class: Any, openrlhf_class: type, bound: tuple[Any, ...]) -> None:
        self._actor_class = actor_class
        self._bound = bound
        self.openrlhf_class = openrlhf_class

    def options(self, **options: Any) -> BoundActor:
        """As ``ActorClass.options``."""
        return BoundActor(self._actor_class.options(**options), self.openrlhf_class, self._bound)

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """As ``ActorClass.remote``, after the bound arguments."""
        return self._actor_class.remote(*self._bound, *args, **kwargs)
