"""``python -m openrlhf_rad.plugin.cpu openrlhf.cli.train_rm FLAGS``: a command of OpenRLHF without a GPU.

For train_sft, train_rm and train_dpo, which ``deepspeed --module`` starts on GPUs: one process on this
machine's CPU, in the number format that it is fast in. train_ppo_ray is run by rad-train.
"""

from __future__ import annotations

import os
import runpy
import socket
import sys
from collections.abc import Callable
from typing import Any

from openrlhf_rad.errors import ConfigError, RadError
from openrlhf_rad.plugin.cpu.backend import activate
from openrlhf_rad.plugin.patches import Patch, apply
from openrlhf_rad.processor import has_gpu

COMMANDS = ("openrlhf.cli.train_sft", "openrlhf.cli.train_rm", "openrlhf.cli.train_dpo")


def main(words: list[str]) -> int:
    """Run the command; the exit code of an error that a user can mend."""
    try:
        check(words)
    except RadError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    activate()
    apply(
        [
            Patch(
                "openrlhf.utils.config:hierarchize",
                _fitting,
                "the one function that the command calls between parsing and training",
            )
        ]
    )
    os.environ |= _alone()
    sys.argv = [words[0], *words[1:]]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    return 0


def check(words: list[str]) -> None:
    """Raise ConfigError for another command, or where there is a GPU."""
    if not words or words[0] not in COMMANDS:
        given = words[0] if words else "missing"
        raise ConfigError(f"the command is {given}; it must be one of {', '.join(COMMANDS)}")
    if has_gpu():
        raise ConfigError(f"there is a GPU; run deepspeed --module {words[0]} with the same flags")


def _fitting(hierarchize: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def fitted(flat: Any) -> Any:
        args = hierarchize(flat)
        refused = {
            "--ds.packing_samples": args.ds.packing_samples,
            "--ds.load_in_4bit": args.ds.load_in_4bit,
            "--ds.ring_attn_size": args.ds.ring_attn_size > 1,
        }
        if given := [flag for flag, value in refused.items() if value]:
            raise SystemExit(f"error: {', '.join(given)} needs a GPU and there is none; leave it out")
        args.ds.adam_offload = True
        if "flash" in args.ds.attn_implementation:
            args.ds.attn_implementation = "sdpa"
        return args

    return fitted


def _alone() -> dict[str, str]:
    """What DeepSpeed's launcher would tell the only process of a run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
