"""The commands ``rad-train``, a light process that resolves, checks, starts and watches one run, and ``rad``.

A module with a command's name holds its options and nothing heavy, so that ``--help`` answers at once. What
the command does is imported once they are read: ``…_run``, ``diagnosis``, and for ``rad-train`` ``plan``,
``preflight`` and ``run``. No module here imports torch, and within the package imports are relative: the
folder is ``cli`` in the source tree and ``openrlhf_rad.cli`` once installed.
"""
