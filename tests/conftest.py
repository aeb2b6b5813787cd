"""What all tests share: how the suite starts, what a failed test leaves, and a server that rates answers."""

import json
import os
import signal
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

# As of a background job, or under nohup; every process inherits it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

#: In the environment of all processes that tests start.
MARK = "OPENRLHF_RAD_SUITE"
os.environ[MARK] = str(os.getpid())
_begun = 0.0


def pytest_runtest_logstart():
    """Remember when a test begins."""
    global _begun  # noqa: PLW0603 - one test at a time
    _begun = time.time()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """End what a failed test has started: after a timeout nobody else waits for it."""
    report = yield
    if report.failed:
        left = list(started(_begun))
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=10)
    return report


def started(since):
    """Processes of the suite that are younger than this, with their children, which may hide their mark."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            ours = process.environ().get(MARK) == os.environ[MARK] and process.pid != os.getpid()
            if ours and process.create_time() >= since - 1:
                yield from (*process.children(recursive=True), process)


class RatingServer(ThreadingHTTPServer):
    """Plays a list of answers, the last one for ever.

    An answer is (status, text, seconds to wait[, headers]), or a function of the handler.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plan = []
        self.requests = []
        self.paths = []
        self.times = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/costs"

    def handle_error(self, request, client_address):
        """The client has gone; it is meant to."""


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = server.plan[min(len(server.requests), len(server.plan) - 1)]
        self.asked = json.loads(body)
        server.requests.append(self.asked)
        server.paths.append(self.path)
        server.times.append(time.monotonic())
        if callable(answer):
            answer(self)
        else:
            self.answer(*answer)

    def answer(self, status, text, wait, headers=()):
        time.sleep(wait)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def server(monkeypatch):
    """A server on a port of its own that runs until the test ends."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with RatingServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def panel():
    """A panel of prompts with as many answers as the sizes say, and the costs and rewards given."""
    import numpy as np

    from openrlhf_rad.statistics.answers import Panel

    def make(sizes, cost=None, reward=None, segments=()):
        size_p = np.asarray(sizes)
        names = tuple(dict.fromkeys(segments))
        segment_p = np.array([names.index(name) for name in segments] or [-1] * size_p.size, dtype=np.int32)
        cost = {name: np.asarray(values, dtype=float) for name, values in (cost or {}).items()}
        reward = {name: np.asarray(values, dtype=float) for name, values in (reward or {}).items()}
        rows = {name: np.arange(size_p.sum()) for name in cost}
        return Panel(np.cumsum(size_p) - size_p, size_p, segment_p, names, {"cost": cost}, reward, rows)

    return make


#: A chat template of the small language models.
CHAT = (
    "{{ bos_token }}{% for m in messages %} {{ 'prompt' if m.role == 'user' else 'answer' }} :"
    " {{ m.content }}{% endfor %}{% if add_generation_prompt %} :{% endif %}"
)


class Classifiers:
    """Small classifiers of several architectures, made on the spot, over the tiny preset's words.

    Each has a tokenizer of its own: lower case, other ids than the policy's, ``[CLS]`` and ``[SEP]`` or, of a
    language model, ``<s>`` and ``</s>``.
    """

    def __init__(self, folder):
        self._folder = folder

    def _tokenizer(self, *, language_model, verdict=("yes", "no")):
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
        from transformers import PreTrainedTokenizerFast

        from openrlhf_rad.jobs.tiny_words import WORDS

        marks = ["<pad>", "<unk>", "<s>", "</s>"] if language_model else ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        words = sorted({word for group in WORDS.values() for word in group}, reverse=True)
        names = [*marks, *verdict, "answer", "prompt", ":", *words]
        raw = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=marks[1]))
        raw.normalizer = normalizers.Lowercase()
        raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        raw.add_special_tokens(marks)
        pad, unknown, begin, end = marks
        if language_model:
            raw.post_processor = processors.TemplateProcessing(f"{begin} $A", special_tokens=[(begin, 2)])
            return PreTrainedTokenizerFast(
                tokenizer_object=raw, unk_token=unknown, bos_token=begin, eos_token=end, model_max_length=64
            )
        raw.post_processor = processors.TemplateProcessing(
            f"{begin} $A {end}", f"{begin} $A {end} $B:1 {end}:1", [(begin, 2), (end, 3)]
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=raw, unk_token=unknown, pad_token=pad, cls_token=begin, sep_token=end
        )

    def _save(self, name, model, tokenizer):
        folder = self._folder / name
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    def bert(self, name="bert", labels=("neutral", "toxic", "threat"), problem=None):
        """A BERT with a classification head, as toxicity classifiers are."""
        import torch
        from transformers import BertConfig, BertForSequenceClassification

        tokenizer = self._tokenizer(language_model=False)
        torch.manual_seed(5)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            initializer_range=0.5,
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            problem_type=problem,
        )
        return self._save(name, BertForSequenceClassification(config).eval(), tokenizer)

    def _llama(self, vocabulary):
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.5,
            bos_token_id=2,
            eos_token_id=3,
            tie_word_embeddings=False,
        )

    def reward(self, name="reward", chat=False):
        """A Llama with the head of a reward model, whose tokenizer pads with the token that ends its"
        " texts."""
        import torch
        from transformers import LlamaForSequenceClassification

        tokenizer = self._tokenizer(language_model=True)
        torch.manual_seed(6)
        config = self._llama(len(tokenizer))
        config.num_labels, config.pad_token_id = 1, 3
        tokenizer.pad_token = "</s>"
        tokenizer.chat_template = CHAT if chat else None
        return self._save(name, LlamaForSequenceClassification(config).eval(), tokenizer)

    def guard(self, name="guard", sure=True, chat=False, verdict=("yes", "no")):
        """A language model that says yes or no next, as guards do; unsure: any word; chat: by a template."""
        import torch
        from transformers import LlamaForCausalLM

        tokenizer = self._tokenizer(language_model=True, verdict=verdict)
        torch.manual_seed(7)
        model = LlamaForCausalLM(self._llama(len(tokenizer)))
        if sure:
            with torch.no_grad():  # only the two words have weights that differ from 0
                kept = model.lm_head.weight[4:6].clone() * 5
                model.lm_head.weight.zero_()
                model.lm_head.weight[4:6] = kept
        tokenizer.chat_template = CHAT if chat else None
        return self._save(name, model.eval(), tokenizer)

    def beaver(self, name="beaver"):
        """A Llama with a scalar head ``score_head`` and its bias, as Safe RLHF saves its cost models."""
        import json

        import torch
        from safetensors.torch import save_file
        from transformers import LlamaModel

        tokenizer = self._tokenizer(language_model=True)
        torch.manual_seed(8)
        model = LlamaModel(self._llama(len(tokenizer))).eval()
        folder = self._save(name, model, tokenizer)
        state = {f"model.{key}": value.contiguous() for key, value in model.state_dict().items()}
        state |= {"score_head.weight": torch.randn(1, 32), "score_head.bias": torch.tensor([0.75])}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaModelForScore"]}))
        return folder


@pytest.fixture(scope="session")
def classifiers(tmp_path_factory):
    """Makes small classifiers: ``classifiers.bert()``, ``.reward()``, ``.guard()``, ``.beaver()``."""
    return Classifiers(tmp_path_factory.mktemp("classifiers"))
