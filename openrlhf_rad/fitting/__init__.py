"""A cost model of one's own: fitted to labelled answers, on the frozen states of a language model.

================  ==========================================================================================
``states``        chats as a rollout has them, and the mean of a model's hidden states over each
``bradley_terry`` the linear fit: order, anchored zero, ties; the same without each answer's own prompt
``pooling``       the fit as one more layer of the model, so that OpenRLHF loads it as a reward model
``cost``          all of it: labels in, a checkpoint and a report out
================  ==========================================================================================
"""
