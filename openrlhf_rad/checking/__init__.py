"""Is this cost any good? What ``rad cost check`` finds out before anybody trains on a cost.

=============  =============================================================================================
``order``      does it order answers as people do, beside the controls: length, and words of refusal
=============  =============================================================================================
"""
