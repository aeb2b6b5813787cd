"""Prompts and preference pairs from files, installed packages and hubs, in the shapes they are published in.

============  ==========================================================================================
``records``   what is made of a row: :class:`Prompt`, :class:`Pair`
``shapes``    HarmBench, AdvBench, BeaverTails, PKU-SafeRLHF, hh-rlhf and plain files, by their columns
``sources``   a path, a short name or the name of a hub → rows
``messages``  prompts as lists of messages, and as one text
``cells``     the cells of a row by the name of their column, checked
``load``      :func:`load_prompts`, :func:`load_pairs`
============  ==========================================================================================
"""

from __future__ import annotations

from openrlhf_rad.data.load import load_pairs, load_prompts
from openrlhf_rad.data.records import Pair, Prompt

__all__ = ["Pair", "Prompt", "load_pairs", "load_prompts"]
