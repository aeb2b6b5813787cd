"""From scored answers of the reference model to a profile whose numbers fit the cost.

=============  =================================================================================
``figures``    the scored answers; spread, risk and score of the reference, each with its interval
``proposal``   what the constraint asks of the reference and could reach; level, margin, λ step and λ_max
``findings``   what is doubtful: sign, slack, reach, too few answers
``report``     what ``rad calibrate`` prints, draws and writes: the profile with the reasons as comments
=============  =================================================================================

The reasons for each formula are in ``docs/authoring.md``.
"""
