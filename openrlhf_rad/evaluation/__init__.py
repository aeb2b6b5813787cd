"""Evaluation of models under a risk profile, and the release gate.

===============  ==========================================================================================
``columns``      which column of a table plays which role
``constraints``  which costs and prompts the constraints of a profile need
``answers``      scores of a model as arrays, checked
``pairing``      several models, or a run before and after, brought to one order of prompts
``sign``         whether higher costs are more harmful, by labels
``sources``      what ``--baseline NAME=SOURCE`` may be, and how it becomes a table of scores
``work``         answers and scores of models, in processes of their own, resumable
``compare``      everything about models and pairs: what eval.json holds
``bounds``       the same under each constraint of a profile
``doubts``       reasons to doubt the numbers
``examples``     answers to look at
``run``          one evaluation from sources to files
``folder``       eval.json, the CSV files and the rows that were judged
``gate``         the rules of a release, and how many prompts they need
``feasibility``  which step of a training run ships
===============  ==========================================================================================

No torch is imported here. Models answer and score in processes of :mod:`openrlhf_rad.plugin.answering`.
"""
