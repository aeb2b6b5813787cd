"""How a class takes the place of one of OpenRLHF's Ray actors."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def plain_class(module: ModuleType, name: str) -> Any:
    """The Python class behind ``@ray.remote class name`` in ``module``, the same at each call."""
    actor_class = getattr(module, name)
    return getattr(actor_class, "openrlhf_class", None) or actor_class.__ray_metadata__.modified_class


def register(
    module: ModuleType, name: str, replacement: type, *bound: Any, here: bool = False, **options: Any
) -> None:
    """Put ``replacement`` as a Ray actor under ``module.name``, where OpenRLHF looks it up.

    Args:
        bound: leading arguments for the constructor, before those that OpenRLHF gives.
        here: on the node of the process that makes the actor, whatever room Ray sees there: the run's folder,
            the cost file and the reference file are on that machine. Needs no CPU of Ray's: OpenRLHF's
            controllers hold one only until they are placed.
        options: options of ``ray.remote``.
    """
    original = plain_class(module, name)
    actor_class = ray.remote(**options)(replacement) if options else ray.remote(replacement)
    setattr(module, name, BoundActor(actor_class, original, bound, here))


class BoundActor:
    """A Ray actor class whose first constructor arguments are already given."""

    def __init__(
        self, actor_class: Any, openrlhf_class: type, bound: tuple[Any, ...], here: bool = False
    ) -> None:
        self._actor_class = actor_class
        self._bound = bound
        self._here = here
        self.openrlhf_class = openrlhf_class

    def options(self, **options: Any) -> BoundActor:
        """As ``ActorClass.options``."""
        return BoundActor(self._actor_class.options(**options), self.openrlhf_class, self._bound, self._here)

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """As ``ActorClass.remote``, after the bound arguments."""
        actor_class = self._actor_class
        if self._here:
            node = ray.get_runtime_context().get_node_id()
            actor_class = actor_class.options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            )
        return actor_class.remote(*self._bound, *args, **kwargs)
