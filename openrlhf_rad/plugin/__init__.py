"""The part of openrlhf_rad that touches OpenRLHF, Ray, DeepSpeed and vLLM; nothing else imports them.

========================  ==============================================================================
``arguments``             the ``--rad.*`` flags, taken off an OpenRLHF command line
``compatibility``         versions tested; combinations of flags that would bend the method, refused
``modes``                 what is asked of asynchronous training, LoRA and models that share GPUs
``attach``                puts the hooks below into OpenRLHF's modules before ``train()`` looks them up
``trainer``               the controller: reference costs first, then one dual step each rollout
``trainer_async``         the two loops of asynchronous training, replaced where OpenRLHF makes them
``experience``            the advantage hook: costs of the whole batch → scores → advantages on r + λs
``actor``, ``loss``       the loss hook: the REINFORCE loss of the paper
``lora``                  adapters, merged on their way to the engines
``rollout``               the rollout worker that does not swallow a reward that failed
``costs``                 the three cost sources
``workers``               what every process of a run is told first, in Ray's workers too
``remote_code``           code that comes with models, refused unless it was asked for
``cpu``                   the CPU backend; the only place that knows there may be no GPU
========================  ==============================================================================
"""
