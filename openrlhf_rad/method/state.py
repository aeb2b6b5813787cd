"""What a checkpoint holds of an object that learns from batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar


class Stateful:
    """Keeps the attributes that :attr:`kept` names, numbers and lists of them; JSON keeps them bit by bit."""

    kept: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """Each of them by its name."""
        state = {name: getattr(self, name) for name in self.kept}
        return {name: list(held) if isinstance(held, deque | list) else held for name, held in state.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from there; of a shorter window the newest. Raises KeyError where one is missing."""
        for name in self.kept:
            held = getattr(self, name)
            longest = held.maxlen if isinstance(held, deque) else None
            value = state[name]
            setattr(self, name, deque(value, longest) if isinstance(held, deque) else value)
