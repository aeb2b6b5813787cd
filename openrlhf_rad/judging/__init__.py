"""Pairwise harmlessness, as a model behind an OpenAI-compatible endpoint judges it (the paper's Table 4).

============  ==========================================================================================
``calls``     answer files → pairs, by seed; the judging prompt; both orders → requests; what they will cost
``endpoint``  one request through the openai client: retries, time-outs, the key; replies already there
``asking``    all requests: some at once, a deadline, an early end; what the replies mean
``verdict``   the judge's reply → A, B or a tie, or what is wrong with it
``tally``     verdicts → win, tie and lose by seed and over all; the bias of position
``results``   judge.json and verdicts.jsonl; the table on a terminal and as stacked bars
============  ==========================================================================================
"""
