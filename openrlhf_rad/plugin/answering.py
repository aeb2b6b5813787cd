"""The processes of ``rad eval`` that need models: ``python -m openrlhf_rad.plugin.answering REQUEST.json``.

A request is made by :mod:`openrlhf_rad.evaluation.work`; its ``task`` is ``generate`` (vLLM answers prompts),
``score`` (a cost or reward source rates answers) or ``likelihood`` (how likely answers are to a language
model). Results are shards of JSON lines, each written whole, so that a process that was killed resumes after
its last shard. Prompts are put into the chat format, and answers scored, as in training: an answer costs the
same in both.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import ConfigError, EnvironmentProblem, RadError
from openrlhf_rad.files import write_atomically
from openrlhf_rad.plugin import cpu, workers
from openrlhf_rad.plugin.compatibility import missing
from openrlhf_rad.plugin.costs.sources import source_of
from openrlhf_rad.plugin.costs.texts import RatedText, texts_behind
from openrlhf_rad.processes import Parent
from openrlhf_rad.processor import has_gpu, torch_dtype
from openrlhf_rad.profile.costs import cost_of, members

Row = dict[str, Any]


def main(words: list[str]) -> int:
    """Do one request; the exit code of the error otherwise, whose text goes to stderr and ``error.txt``."""
    Parent().follow(seconds=0.0)  # shards are written whole: there is nothing to put in order
    workers.prepare(trust_remote_code=workers.trusted())
    request = json.loads(Path(words[0]).read_text(encoding="utf-8"))
    out = Path(request["out"])
    try:
        {"generate": generate, "score": score, "likelihood": likelihood}[request["task"]](request, out)
    except RadError as error:
        print(error, file=sys.stderr)
        (out / "error.txt").write_text(f"{error}\n", encoding="utf-8")
        return error.exit_code
    return 0


def shards(request: Row, out: Path) -> Iterator[tuple[Path, int, list[Row]]]:
    """The shards not yet written: path, index of the first row, rows of the input."""
    rows = [
        json.loads(line) for line in Path(request["rows"]).read_text(encoding="utf-8").split("\n") if line
    ]
    size = int(request["shard"])
    for number, first in enumerate(range(0, len(rows), size)):
        path = out / f"{number:05d}.jsonl"
        if not path.exists():
            yield path, first, rows[first : first + size]


def generate(request: Row, out: Path) -> None:
    """Answer prompts with vLLM. Input rows: prompt. Output: prompt index, sample, sent, answer, finished."""
    waiting = list(shards(request, out))
    if not waiting:
        return
    _need("vllm")
    if not has_gpu():
        cpu.activate()
    from transformers import AutoConfig, AutoTokenizer  # noqa: PLC0415
    from vllm import LLM, SamplingParams  # noqa: PLC0415 - takes seconds, and touches the devices

    trust = workers.trusted()
    tokenizer = AutoTokenizer.from_pretrained(request["model"], trust_remote_code=trust)
    config = AutoConfig.from_pretrained(request["model"], trust_remote_code=trust)
    sampling = request["sampling"]
    longest = getattr(config, "max_position_embeddings", None)
    model = LLM(
        model=request["model"],
        seed=int(sampling["seed"]),
        max_model_len=min(int(sampling["max_len"]), longest or int(sampling["max_len"])),
        tensor_parallel_size=int(sampling["tensor_parallel_size"]),
        trust_remote_code=trust,
        **cpu.engine_arguments(),
    )
    for path, first, rows in waiting:
        sent = [templated(row["prompt"], request["template"], tokenizer) for row in rows]
        # A seed for each prompt: an answer does not depend on where a run was broken off.
        parameters = [
            SamplingParams(
                n=int(sampling["samples"]),
                temperature=float(sampling["temperature"]),
                top_p=float(sampling["top_p"]),
                max_tokens=int(sampling["max_tokens"]),
                seed=int(sampling["seed"]) * 1_000_003 + first + place,
                skip_special_tokens=True,
            )
            for place in range(len(rows))
        ]
        inputs = [
            {"prompt_token_ids": tokenizer(text, add_special_tokens=False)["input_ids"]} for text in sent
        ]
        outputs = model.generate(inputs, parameters, use_tqdm=False)
        write_shard(path, answer_rows(outputs, sent, first, tokenizer))


def answer_rows(outputs: list[Any], sent: list[str], first: int, tokenizer: Any) -> list[Row]:
    """vLLM's outputs as rows, in the order of the prompts; answers are decoded as in training."""
    rows = []
    for place, result in enumerate(outputs):
        prompts = [result.prompt_token_ids] * len(result.outputs)
        texts = texts_behind(prompts, [answer.token_ids for answer in result.outputs], tokenizer)
        for number, (answer, text) in enumerate(zip(result.outputs, texts, strict=True)):
            rows.append(
                {
                    "index": first + place,
                    "sample": number,
                    "sent": sent[place],
                    "answer": text,
                    "finished": answer.finish_reason == "stop",
                }
            )
    return rows


def score(request: Row, out: Path) -> None:
    """Rate answers. Input rows: prompt, answer, label, sent, finished. Output: index, value."""
    waiting = list(shards(request, out))
    if not waiting:
        return
    asked = cost_of(request["kind"], request["location"], request.get("settings"))
    if any(one.kind in ("model", "classifier") for one in members(asked)):
        _need("openrlhf")
        if not has_gpu():
            cpu.activate()
    source = source_of(asked.kind, asked.location, request["role"], settings=asked.settings)
    tokenizer = getattr(source, "tokenizer", None)  # a model has a chat format of its own
    for path, first, rows in waiting:
        values = source.finish(source.begin([[_rated(row, request["template"], tokenizer) for row in rows]]))
        write_shard(path, [{"index": first + i, "value": value} for i, value in enumerate(values)])


#: Tokens of one forward pass: their logits, twice over a vocabulary of 50,000, take 0.8 GB.
_PASS = 2048


def likelihood(request: Row, out: Path) -> None:
    """−log π of answers to a language model. Input rows: prompt, answer, sent. Output: index, value, tokens.

    ``value`` is the sum over the answer's tokens, in nats; the answer is cut into tokens by itself.
    """
    waiting = list(shards(request, out))
    if not waiting:
        return
    _need("transformers")
    import torch  # noqa: PLC0415 - takes seconds
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    trust = workers.trusted()
    tokenizer = AutoTokenizer.from_pretrained(request["model"], trust_remote_code=trust)
    device, dtype = ("cuda", torch.bfloat16) if has_gpu() else ("cpu", torch_dtype())
    model = AutoModelForCausalLM.from_pretrained(request["model"], dtype=dtype, trust_remote_code=trust)
    model.to(device)
    model.eval()
    for path, first, rows in waiting:
        chats = [
            tuple(
                tokenizer(text, add_special_tokens=False)["input_ids"]
                for text in (sent_prompt(row, request["template"], tokenizer), row["answer"])
            )
            for row in rows
        ]
        # Those of like length together: a pass is as wide as its longest.
        order = sorted(range(len(chats)), key=lambda place: sum(map(len, chats[place])))
        values: list[float] = []
        while len(values) < len(chats):
            values += _losses(model, [chats[place] for place in order[len(values) :]])
        found = [
            {"index": first + place, "value": value, "tokens": len(chats[place][1])}
            for place, value in sorted(zip(order, values, strict=True))
        ]
        write_shard(path, found)


def _losses(model: Any, chats: Sequence[tuple[list[int], ...]]) -> list[float]:
    """−log π of the first answers, as many as one pass may hold; padded behind, where nothing looks."""
    import torch  # noqa: PLC0415 - takes seconds

    widths = list(accumulate((len(before) + len(answer) for before, answer in chats), max))
    kept = max(1, sum(count * width <= _PASS for count, width in enumerate(widths, 1)))
    width = max(1, widths[kept - 1])
    ids = torch.zeros((kept, width), dtype=torch.long)
    own = torch.zeros((kept, width), dtype=torch.bool)  # the answer's tokens
    for place, (before, answer) in enumerate(chats[:kept]):
        ids[place, : len(before) + len(answer)] = torch.tensor(before + answer)
        own[place, len(before) : len(before) + len(answer)] = True
    ids, own = ids.to(model.device), own[:, 1:].to(model.device)
    with torch.no_grad():
        logits = model(ids).logits[:, :-1][own].float()
    losses = torch.nn.functional.cross_entropy(logits, ids[:, 1:][own], reduction="none").double()
    return [float(part.sum()) for part in torch.split(losses, own.sum(-1).tolist())]


def _rated(row: Row, template: str | None, tokenizer: Any) -> RatedText:
    sent = sent_prompt(row, template, tokenizer)
    # OpenRLHF's label of a prompt that has none is an empty text.
    label = "" if row.get("label") is None else row["label"]
    return RatedText(sent, row["answer"], label, row["finished"])


def _need(package: str) -> None:
    if problems := missing(package):
        raise EnvironmentProblem("\n".join(problems))


def sent_prompt(row: Row, template: str | None, tokenizer: Any) -> str:
    """The prompt as it was sent: ``sent``, or in a run's tables, where that is true, ``prompt`` itself."""
    if row["sent"] is True:
        return str(row["prompt"])
    return row["sent"] or templated(row["prompt"], template, tokenizer)


def templated(prompt: str | list[Row], template: str | None, tokenizer: Any) -> str:
    """The prompt as it is sent: in the template (``{}``), else in the chat format, else as it is.

    A list of messages is sent in the chat format, as OpenRLHF does with --data.apply_chat_template.
    """
    if template and isinstance(prompt, str):
        return template.replace("\\n", "\n").replace("{}", prompt)  # as OpenRLHF does
    if not template and tokenizer is not None and getattr(tokenizer, "chat_template", None):
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    if not isinstance(prompt, str):
        why = "a template holds one text" if template else "the model's tokenizer has no chat template"
        raise ConfigError(
            f"the prompt {prompt!r:.120} is a list of messages, and {why}; give a model with a chat template"
            " and no --template, or prompts that are texts"
        )
    return prompt


def write_shard(path: Path, rows: list[Row]) -> None:
    """Write a shard whole or not at all."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
