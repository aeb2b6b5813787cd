"""The chat format of the jobs: one user turn, no system prompt, then the answer."""

from __future__ import annotations

END = "<|im_end|>"
START = "<|im_start|>"
ASSISTANT = f"{START}assistant"
#: ``--data.input_template`` of the jobs.
TEMPLATE = START + "user\n{}" + END + "\n" + ASSISTANT + "\n"
#: The default template, with a system prompt, is left out: it costs 25 tokens a sample on a small CPU.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def split_query(query: str, prompt: str) -> tuple[str, str]:
    """The user's words and the answer, without markup, of one rollout.

    Args:
        query: decoded prompt and answer, special tokens kept.
        prompt: the prompt as it was sent, with or without markup; it says where the answer starts. When the
            query does not repeat it to the letter (a prompt cut on the left, other white space), the answer
            starts after the first assistant header.

    Returns:
        ``(user, answer)``; the answer ends at the first special token, so that markup that the policy writes
        itself cannot open a second answer.
    """
    if query.startswith(prompt):
        answer = query[len(prompt) :]
    elif ASSISTANT.replace(" ", "") in query.replace(f"{START} ", START):
        answer = query.replace(f"{START} ", START).split(ASSISTANT, 1)[1]
    else:
        answer = query
    return _user(prompt), answer.split("<|", 1)[0].strip()


def _user(prompt: str) -> str:
    """The last user turn of a prompt in chat format; the prompt itself if it has no markup."""
    if START not in prompt:
        return prompt.strip()
    turn = prompt.rsplit(f"{START}user", maxsplit=1)[-1]
    return turn.split(END, 1)[0].strip()
