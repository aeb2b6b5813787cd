"""Watches: what a training step's metrics say when a run goes wrong, in plain words; each can stop the run.

=============  ===================================================================================
``inert``      the constraint was never violated: it asks for nothing
``dead``       it is violated, and no sample feels it: its gradient is 0
``at_cap``     λ stays at its maximum while the constraint is violated
``inverted``   at first, what is known to be harmful costs less than what is not
``saturated``  policy and reference sit at the largest cost wherever the risk looks
``no_control`` λ rises and the risk rises with it
``transport``  the transport solver does not converge
``empty``      answers become empty
``short``      answers become short
``alike``      answers become the same
``entropy``    the policy becomes certain of every token
=============  ===================================================================================

Pure: a step's metrics go in, alarms come out. A metric that is absent keeps its watches silent. Each speaks
once when its condition is reached, and again only after it has cleared. "At first" means the first ``window``
steps; ``inverted`` and ``saturated`` look at the reference's answers too, before the first update
(:func:`at_start`). Where no prompt has a label for harm ``inverted`` is off, and that is said
(:func:`unlabelled`). All but the last four look at each constraint of a profile on its own, those at the
answers.
"""

from openrlhf_rad.harm import harm_auc, known_harm
from openrlhf_rad.watches.answers import answer_metrics
from openrlhf_rad.watches.run import Alarm, Watches
from openrlhf_rad.watches.start import at_start, unlabelled

__all__ = ["Alarm", "Watches", "answer_metrics", "at_start", "harm_auc", "known_harm", "unlabelled"]
