"""What people do with a profile before anything trains: check, see, compare, explain and write it.

==============  ==================================================================================
``check``       a file, a shipped name or standard input → profile; problems and warnings of it
``words``       spectra, levels and constraints in words; a profile in plain English
``show``        one profile on a page; weights as characters, and as CSV, JSON or NPY
``difference``  two profiles: what changes in the weights, and every setting that differs
``drawing``     pictures for a document: φ, bin weights, cumulative weight
``interview``   a few questions → a commented file
==============  ==================================================================================

No module here knows the command line, and none imports torch; numpy and rich are the heaviest.
"""
