"""The CPU backend: the unmodified OpenRLHF, DeepSpeed and vLLM on a machine without a GPU.

It is chosen by itself where no GPU is visible and does nothing where there is one. Each place where the
stack takes a GPU for granted is one entry of :data:`openrlhf_rad.plugin.cpu.backend.TOUCH_POINTS`.
"""

from openrlhf_rad.plugin.cpu.backend import activate, engine_arguments
from openrlhf_rad.plugin.cpu.fork_server import start as start_fork_server

__all__ = ["activate", "engine_arguments", "start_fork_server"]
