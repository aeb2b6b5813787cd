"""What answers are rated by, and how a rating that fails stops the run.

==================  ====================================================================================
``costs``           what a cost source is; costs that are no finite numbers, or never differ, are refused
``cost_sources``    the sources that a profile names
``cost_model``      a model with a scalar head, served by OpenRLHF's reward actors
``cost_texts``      a source that sees texts: a Python file
``cost_server``     servers, asked once a rollout
``rewards``         what a rollout worker does with OpenRLHF's reward servers and functions
``texts``           an answer as text, the same in training and in rad eval
``python_file``     users' Python files, loaded alike everywhere
``models``          what is wrong with the rating models of a command, before anything starts
``checkpoint``      what their files hold, without torch
``loading``         models as they are loaded, whole or not at all
``server``          a rating server and its answers
``patience``        how long a server is waited for
``variety``         ratings that never differ
==================  ====================================================================================
"""
