"""The cost sources that a profile names."""

from __future__ import annotations

from typing import Any

from openrlhf_rad.errors import CostError
from openrlhf_rad.plugin.modes import cost_models, share_of_gpu
from openrlhf_rad.plugin.ratings.cost_model import CostModel
from openrlhf_rad.plugin.ratings.cost_server import RemoteCost
from openrlhf_rad.plugin.ratings.cost_texts import FunctionCost
from openrlhf_rad.plugin.ratings.costs import CostSource, VaryingCosts
from openrlhf_rad.plugin.ratings.patience import Patience
from openrlhf_rad.profile import CostSource as Named
from openrlhf_rad.profile import RiskProfile, cost_names


def cost_sources(profile: RiskProfile, **context: Any) -> dict[str, VaryingCosts]:
    """The sources of the profile by name, each once however many constraints share it.

    A source whose costs no longer vary stops the run.

    Args:
        context: ``strategy``, ``tokenizer``, ``patience``, ``nodes``, ``gpus_per_node`` and
            ``placement_group``, the last None where models do not share GPUs.

    Raises:
        CostError: a constraint without a cost.
    """
    lacking = [one.name for one in profile.constraints if one.cost is None]
    if lacking:
        raise CostError(
            f"profile {profile.name} has no cost for {', '.join(lacking)};"
            " add cost: {model: …}, {function: …} or {remote_url: …}"
        )
    if context.get("placement_group") is not None:
        context["share"] = share_of_gpu(context["strategy"].args, cost_models(profile) or 1)
    named = {name: source for source, name in cost_names(profile).items() if source}
    return {name: VaryingCosts(_source(source, **context)) for name, source in named.items()}


def _source(named: Named, patience: Patience | None = None, **context: Any) -> CostSource:
    if named.kind == "model":
        return CostModel(named.location, **context)
    strategy, tokenizer = context.get("strategy"), context["tokenizer"]
    agent = bool(strategy is not None and strategy.args.train.agent_func_path)
    if named.kind == "function":
        return FunctionCost(named.location, tokenizer, agent=agent)
    return RemoteCost(named.location, tokenizer, patience, agent=agent)
