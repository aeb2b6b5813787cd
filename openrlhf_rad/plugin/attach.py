"""How a class takes the place of one of OpenRLHF's Ray actors, and where its actors are placed."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

import ray
from openrlhf.trainer.ray import launcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from openrlhf_rad.plugin.vigil import Vigil


def plain_class(module: ModuleType, name: str) -> Any:
    """The Python class behind ``@ray.remote class name`` in ``module``, the same at each call."""
    return _plain(getattr(module, name))


def _plain(actor_class: Any) -> Any:
    return getattr(actor_class, "openrlhf_class", None) or actor_class.__ray_metadata__.modified_class


def bound(replacement: type, *first: Any, here: bool = False, **options: Any) -> Callable[[Any], BoundActor]:
    """What puts ``replacement`` as a Ray actor in the place of OpenRLHF's.

    Args:
        first: leading arguments for the constructor, before those that OpenRLHF gives.
        here: on the node of the process that makes the actor, whatever room Ray sees there: the run's folder,
            the cost file and the reference file are on that machine. Needs no CPU of Ray's: OpenRLHF's
            controllers hold one only until they are placed.
        options: options of ``ray.remote``.
    """
    actor_class = ray.remote(**options)(replacement) if options else ray.remote(replacement)
    return lambda original: BoundActor(actor_class, _plain(original), first, here)


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


class PlacedActorGroup(launcher.RayActorGroup):  # type: ignore[misc]
    """OpenRLHF's group of actors; remembers its placement group, so that a cost model can share it."""

    #: To whom each group names its actors; set in the driver alone.
    vigil: ClassVar[Vigil | None] = None

    def __init__(self, *args: Any, pg: Any = None, **kwargs: Any) -> None:
        self.placement_group = pg
        super().__init__(*args, pg=pg, **kwargs)
        if self.vigil is not None:
            self.vigil.remember(self._actor_handlers)
