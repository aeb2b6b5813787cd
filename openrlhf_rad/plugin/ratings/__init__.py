"""What answers are rated by, and how a rating that fails stops the run.

==================  ====================================================================================
``costs``           what a cost source is; costs that are no finite numbers, or never differ, are refused
``cost_sources``    the sources that a profile names
``cost_model``      a model with a scalar head, served by OpenRLHF's reward actors
``cost_texts``      a source that sees texts: a Python file
``cost_server``     a server, asked once a rollout
``rewards``         what a rollout worker does with OpenRLHF's reward servers and functions
``server``          a rating server and its answers
``patience``        how long a server is waited for
``variety``         ratings that never differ
==================  ====================================================================================
"""
