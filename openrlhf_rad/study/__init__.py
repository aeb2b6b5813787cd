"""Studies: profiles and baselines × seeds × one job, trained, evaluated on the same prompts and compared.

==============  ===========================================================================================
``spec``        the file of a study: models, seeds, ask, and a job or the exact world
``exact``       the exact world: a policy that can be enumerated, truth at every step
``folder``      a study's folder: what was asked, which runs are done
``enumerated``  the runs of the exact world, their steps to feasibility
``training``    the runs of the real stack, one after another or by a launcher
``scoring``     every model's answers to the same prompts, with costs, rewards and perplexity
``answers``     answers of all models as one table of weighted scores; Parquet
``estimates``   means over seeds with intervals by two-level resampling
``comparison``  the paper's tables and figure, the matrix of risks, the frontier
``verdicts``    what confirms or refutes a hypothesis
``page``        one HTML page, and the same tables as Markdown
==============  ===========================================================================================
"""
