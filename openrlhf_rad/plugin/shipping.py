"""Which model a run exports: of its last steps the one of highest reward that surely meets the constraint.

λ wanders about the boundary of the constraint, so that a run may end on either side of it. Candidates are the
last weights and the checkpoints of the second half that are still kept (``--ckpt.max_num``), each judged on
held-out answers; OpenRLHF's command then exports what the policy holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray

from openrlhf_rad.evaluation.feasibility import judge, reason
from openrlhf_rad.runs.checkpoints import whole

_UNSHOWN = "-constraint-not-shown-to-be-met"


def ship(trainer: Any) -> None:
    """Judge the candidates, have the policy hold the best, and say which it is.

    Args:
        trainer: a ``RadTraining`` after its last update, with the last weights' answers in its folder.
    """
    profile, folder = trainer.options.profile, trainer.folder
    last, _ = trainer.last
    if trainer.options.heldout is None:
        text = f"model/ is of step {last}. Its constraint was not judged: the run had no held-out prompts."
        _name(trainer, f"{profile.name}-step{last}-not-judged", text)
        return
    before = folder.read_answers("before")
    rows = {last: folder.read_answers("after")}
    held, tags = last, _tags(trainer)
    for step in sorted(tags.keys() - {last}):
        _load(trainer, tags[step])
        trainer.broadcast_to_vllm()
        rows[step], held = trainer.heldout_answers("after"), step
    candidates = [judge(profile, step, before, rows[step]) for step in sorted(rows)]
    chosen = max(candidates, key=lambda one: (one.rank, one.step))
    if held != chosen.step:
        _load(trainer, tags[chosen.step])
    for step, answers in rows.items():
        folder.write_candidate(step, answers)
    folder.write_answers("after", rows[chosen.step])
    text = reason(candidates, chosen, profile.evaluate.confidence)
    folder.write_selection(
        {
            "step": chosen.step,
            "last_step": last,
            "feasible": chosen.feasible,
            "reason": text,
            "confidence": profile.evaluate.confidence,
            "candidates": [{**asdict(one), "feasible": one.feasible} for one in candidates],
        }
    )
    _name(trainer, f"{profile.name}-step{chosen.step}{'' if chosen.feasible else _UNSHOWN}", text)


def _tags(trainer: Any) -> Mapping[int, str]:
    """The checkpoints that may ship, the last step's among them, by step; none where only that may."""
    args, (last, states) = trainer.args, trainer.last
    # Nothing to load; an average is not what is sampled; DeepSpeed takes the newest for any under ZeRO-3.
    if args.ckpt.disable_ds or args.train.enable_ema or args.ds.zero_stage == 3:
        return {}
    path = Path(args.ckpt.path)

    def late() -> dict[int, str]:
        return {one.step: one.tag for one in whole(path) if last / 2 < one.step <= last}

    if late().keys() - {last} and last not in late():
        groups = [trainer.actor_model_group, trainer.critic_model_group]
        kept = {"tag": f"global_step{last}", "client_states": states}
        saves = [groups[0].async_run_method("save_checkpoint", **kept)]
        if groups[1] is not None:
            saves.append(groups[1].async_run_method("save_checkpoint", tag=kept["tag"]))
        ray.get([save for refs in saves for save in refs])
    return late()


def _load(trainer: Any, tag: str) -> None:
    ray.get(trainer.actor_model_group.async_run_method("load_weights", tag=tag))


def _name(trainer: Any, name: str, text: str) -> None:
    profile = trainer.options.profile
    card = (
        f"---\nlibrary_name: transformers\nmodel_name: {name}\n---\n\n# {name}\n\n{text}\n\n"
        f"Trained with openrlhf_rad under the risk profile {profile.name}: {profile.risk}, hash"
        f" {profile.hash}.\n"
    )
    ray.get(trainer.actor_model_group.async_run_method("name_model", name=name, card=card))
