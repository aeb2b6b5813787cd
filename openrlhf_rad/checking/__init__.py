"""Is this cost any good? What ``rad cost check`` finds out before anybody trains on a cost.

===========  ===============================================================================================
``order``    does it order answers as people do, beside the controls: length, and words of refusal
``rates``    how often people call an answer harmful, by its cost: calibration, zero, floor and ties
``probes``   what refusals, empty, off-topic and repeated answers cost
``report``   all of it for one cost, the profiles that it can carry, and a gate's verdict in a sentence
===========  ===============================================================================================
"""
