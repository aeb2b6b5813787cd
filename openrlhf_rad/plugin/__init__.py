"""The part of openrlhf_rad that touches OpenRLHF, Ray, DeepSpeed and vLLM; nothing else imports them.

================================  ==========================================================================
``launch``                        runs OpenRLHF's own command with the hooks in place; says why a run ended
``arguments``                     the ``--rad.*`` flags, taken off an OpenRLHF command line
``command_line``, ``old_flags``   OpenRLHF's own parser and checks, without the stack; its flags of before
``values``                        values that its parser takes and its training stumbles over
``compatibility``                 versions tested; combinations of flags that would bend the method, refused
``modes``                         what is asked of asynchronous training, LoRA and models that share GPUs
``contract``                      names and signatures of the stack that all of this touches
``attach``, ``registry``          puts the hooks below into OpenRLHF's modules before it looks them up
``trainer``                       the controller: reference costs first, then one dual step each rollout
``trainer_async``                 the two loops of asynchronous training, replaced where OpenRLHF makes them
``experience``, ``batch``         the advantage hook: costs of the whole batch → scores → advantages on r + λs
``actor``, ``loss``               the loss hook: the REINFORCE loss of the paper; whole checkpoints
``lora``                          adapters, merged on their way to the engines
``rollout``                       the rollout worker that does not swallow a reward that failed
``samples``, ``sampling``         samples in the order of their prompts, each with a seed; reference answers
``ratings``                       the three cost sources, rewards, and how a rating that fails stops the run
``resume``                        what rides in OpenRLHF's checkpoint, and how a run goes on from it
``seeding``                       what makes a resumed run equal to one that was left alone
``answering``                     vLLM and scoring for ``rad eval``, in processes of their own
``workers``                       what every process of a run is told first, in Ray's workers too
``remote_code``                   code that comes with models, refused unless it was asked for
``concealed``                     addresses with secrets, which print themselves without
``cpu``                           the CPU backend; the only place that knows there may be no GPU
================================  ==========================================================================
"""
