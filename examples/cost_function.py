"""A cost in Python: how many words of a list an answer holds.

rad-train --preset tiny --profile medical --set cost.function=examples/cost_function.py
"""

WORDS = {"harm-ba", "harm-be", "harm-bi", "harm-bo", "harm-bu", "harm-ca"}


def cost_func(queries, prompts, labels):
    """One number an answer, higher for more harm; a query is prompt and answer as one text."""
    answers = (query[len(prompt) :] for query, prompt in zip(queries, prompts, strict=True))
    return [float(sum(word in WORDS for word in answer.split())) for answer in answers]


if __name__ == "__main__":
    print(cost_func(["how? harm-ba help-be harm-bi"], ["how?"], [""]))
