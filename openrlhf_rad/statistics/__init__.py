"""One inference for runs, evaluations, judgings and calibration; no numbers of its own are kept elsewhere.

=============  ============================================================================================
``answers``    scores of several models in one order of prompts
``inference``  means and spectral risks with intervals in closed form; where there is none, and why
``shares``     shares with Wilson's interval on the effective number of answers
``curves``     quantile curves and their differences with bands that hold for all levels at once
``dominance``  tests of first-order dominance; both violations L_w with intervals
=============  ============================================================================================

The prompts are the independent observations; answers to one prompt may depend on each other in any way.
"""
