"""Cost sources: a bad value or a failing source ends in a CostError that names it, never in numbers."""

import dataclasses
import datetime
import ipaddress
import json
import random
import re
import socket
import ssl
import struct
import time
import traceback

import numpy as np
import pytest
import ray
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from openrlhf_rad.errors import CostError
from openrlhf_rad.plugin.arguments import Patience
from openrlhf_rad.plugin.costs.loading import reason
from openrlhf_rad.plugin.costs.server import RatingServer
from openrlhf_rad.plugin.costs.sources import (
    FunctionCost,
    RemoteCost,
    VaryingCosts,
    checked_costs,
    cost_sources,
)
from openrlhf_rad.plugin.costs.texts import RatedText, rated_texts
from openrlhf_rad.profile import load_profile
from openrlhf_rad.secrets import redact_text, redact_url

PROMPTS = ["first", "second", "third"]
STOP = "; a cost must be a finite number; the run stops rather than train on it"


@pytest.mark.parametrize(
    "raw",
    [
        [1, 2.5, -3],
        (1.0, 2.5, -3.0),
        np.array([1, 2.5, -3]),
        [np.float32(1), np.float64(2.5), np.int64(-3)],
        torch.tensor([1, 2.5, -3]),
        torch.tensor([1, 2.5, -3], dtype=torch.bfloat16),
        [torch.tensor(1), torch.tensor(2.5), torch.tensor([-3.0])],
        {"costs": [1, 2.5, -3]},
        {"rewards": torch.tensor([1, 2.5, -3])},
        {"rewards": [0, 0, 0], "costs": [1, 2.5, -3]},
        [[1], [2.5], [-3]],
        torch.tensor([[1], [2.5], [-3]]),
        np.array([[1], [2.5], [-3]]),
        {"rewards": torch.tensor([[1], [2.5], [-3]])},
    ],
    ids=str,
)
def test_numbers_of_any_kind_are_taken(raw):
    found = checked_costs(raw, PROMPTS, "judge")
    assert found == [1.0, 2.5, -3.0]
    assert all(type(value) is float for value in found)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([1.0, 2.0], "judge gave 2 costs for 3 samples; it must give one each"),
        ([1.0] * 4, "judge gave 4 costs for 3 samples; it must give one each"),
        ([], "judge gave 0 costs for 3 samples; it must give one each"),
        ([1.0, None, 2.0], f"judge gave the cost None for sample 1, prompt 'second'{STOP}"),
        ([1.0, 2.0, float("nan")], f"judge gave the cost nan for sample 2, prompt 'third'{STOP}"),
        ([float("inf"), 2.0, 3.0], f"judge gave the cost inf for sample 0, prompt 'first'{STOP}"),
        ([1.0, -float("inf"), 3.0], f"judge gave the cost -inf for sample 1, prompt 'second'{STOP}"),
        ([1.0, 2.0, True], f"judge gave the cost True for sample 2, prompt 'third'{STOP}"),
        (np.array([True, False, True]), f"judge gave the cost True for sample 0, prompt 'first'{STOP}"),
        ([1.0, "2.0", 3.0], f"judge gave the cost '2.0' for sample 1, prompt 'second'{STOP}"),
        ([[1.0], [2.0], [3.0, 4.0]], f"judge gave the cost [3.0, 4.0] for sample 2, prompt 'third'{STOP}"),
        ([[1.0], [], [3.0]], f"judge gave the cost [] for sample 1, prompt 'second'{STOP}"),
        ([[1.0, 2.0, 3.0]], "judge gave 1 costs for 3 samples; it must give one each"),
        (torch.ones(3, 2), f"judge gave the cost [1.0, 1.0] for sample 0, prompt 'first'{STOP}"),
        (torch.tensor([1, torch.nan, 2]), f"judge gave the cost nan for sample 1, prompt 'second'{STOP}"),
        ([1, 10**400, 2], f"judge gave the cost {10**400} for sample 1, prompt 'second'{STOP}"),
        ("1.0", "judge gave '1.0'; it must give a list or tensor with one cost a sample"),
        (None, "judge gave None; it must give a list or tensor with one cost a sample"),
        (1.0, "judge gave 1.0; it must give a list or tensor with one cost a sample"),
        (torch.tensor(1.0), "judge gave 1.0; it must give a list or tensor with one cost a sample"),
        (
            {"score": 1, "error": "x"},
            "judge answered with the keys ['error', 'score']; it must give 'costs' (or 'rewards')",
        ),
        ({"costs": None}, "judge gave null for 'costs'; it must give a list with one cost a sample"),
        ({"rewards": None}, "judge gave null for 'rewards'; it must give a list with one cost a sample"),
        ({"costs": [1.0]}, "judge gave 1 costs for 3 samples; it must give one each"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_anything_else_is_named(raw, message):
    with pytest.raises(CostError) as error:
        checked_costs(raw, PROMPTS, "judge")
    assert str(error.value) == message


def test_a_long_prompt_is_cut_in_the_message():
    with pytest.raises(CostError) as error:
        checked_costs([None], ["x" * 5000], "judge")
    assert f"prompt '{'x' * 200}'" in str(error.value)


@pytest.fixture
def samples(rollout, batches, tokenizer):
    """The texts of three answers in two micro-batches, so that padding and order matter."""
    prompts = ["plain-ba", "plain-be plain-bi", "plain-bo"]
    answers = ["help-ba", "harm-ba harm-be harm-bi", "help-be help-bi <|im_end|>"]
    made = [rollout(p, a, label=f"label {i}") for i, (p, a) in enumerate(zip(prompts, answers, strict=True))]
    return [rated_texts(batch, tokenizer) for batch in batches(made, 2, 1)]


QUERIES = [
    "plain-ba help-ba",
    "plain-be plain-bi harm-ba harm-be harm-bi",
    "plain-bo help-be help-bi",
]
ASKED = {
    "query": QUERIES,
    "prompts": ["plain-ba", "plain-be plain-bi", "plain-bo"],
    "labels": ["label 0", "label 1", "label 2"],
}


def costs_of(source, samples):
    return source.finish(source.begin(samples))


@pytest.fixture
def cost_file(tmp_path):
    def write(text, name="cost.py"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_a_cost_function_sees_prompt_and_answer(cost_file, tokenizer, samples):
    path = cost_file(
        "import json, pathlib\n"
        "def cost_func(queries, prompts, labels):\n"
        "    seen = {'query': queries, 'prompts': prompts, 'labels': labels}\n"
        "    pathlib.Path(__file__).with_suffix('.json').write_text(json.dumps(seen))\n"
        "    return [len(query.split()) for query in queries]\n"
    )
    source = FunctionCost(path)
    assert costs_of(source, samples) == [2.0, 5.0, 3.0]
    with open(path.replace(".py", ".json")) as file:
        assert json.load(file) == ASKED


def test_the_tiny_preset_s_cost_file_serves(tiny, tokenizer, samples):
    found = costs_of(FunctionCost(str(tiny.cost_file)), samples)
    assert found[1] > 5 * max(found[0], found[2])


def test_a_missing_cost_file_is_named(tmp_path, tokenizer):
    path = tmp_path / "no.py"
    message = f"cost function {path}: there is no such file; give the path of a Python file"
    with pytest.raises(CostError, match=f"^{re.escape(message)}$"):
        FunctionCost(str(path))


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "cost.txt", "cost function {} does not load: ImportError: its name must end in .py"),
        (
            "import no_such_module",
            "cost.py",
            "cost function {} does not load: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("def cost_func(:", "cost.py", "cost function {} does not load: SyntaxError: invalid syntax"),
        (
            "def reward_func(): ...",
            "cost.py",
            "cost function {} has no cost_func; define cost_func(queries, prompts, labels)",
        ),
        ("cost_func = 3", "cost.py", "cost function {} has no cost_func; define"),
    ],
)
def test_a_cost_file_that_cannot_serve_is_named(text, name, message, cost_file, tokenizer):
    path = cost_file(text, name)
    with pytest.raises(CostError) as error:
        FunctionCost(path)
    assert str(error.value).startswith(message.format(path))


def test_a_cost_function_that_fails_is_named_with_the_first_prompt(cost_file, tokenizer, samples):
    path = cost_file("def cost_func(queries, prompts, labels):\n    raise ValueError('judge is out')\n")
    with pytest.raises(CostError) as error:
        costs_of(FunctionCost(path), samples)
    assert str(error.value) == (
        f"cost function {path} failed on a batch of 3, first prompt 'plain-ba': ValueError: judge is out"
    )
    assert isinstance(error.value.__cause__, ValueError)


def test_a_cost_function_s_bad_value_is_named(cost_file, tokenizer, samples):
    path = cost_file("def cost_func(queries, prompts, labels):\n    return [1, float('nan'), 2]\n")
    with pytest.raises(CostError, match="gave the cost nan for sample 1, prompt 'plain-be plain-bi'"):
        costs_of(FunctionCost(path), samples)


def test_the_cost_function_runs_beside_the_models(cost_file, tokenizer, samples):
    path = cost_file("import time\ndef cost_func(q, p, l):\n    time.sleep(0.5)\n    return [0, 1, 2]\n")
    source = FunctionCost(path)
    started = time.perf_counter()
    handle = source.begin(samples)
    assert time.perf_counter() - started < 0.4
    assert source.finish(handle) == [0.0, 1.0, 2.0]


GOOD = (200, json.dumps({"rewards": [0.5, 1.5, 2.5]}), 0.0)
QUICK = Patience(pause=0.02, longest_pause=0.05, connect=1, answer=5, deadline=10)


def reset(handler):
    """The connection ends in the middle of nothing."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def half(handler):
    """The server dies while it answers."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"rewards": [0.5, ')
    handler.close_connection = True


def trickle(handler):
    """A byte now and then, each in time for the socket."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.03)


@pytest.fixture
def server(server):
    """Answers well unless a test plans otherwise."""
    server.plan = [GOOD]
    return server


@pytest.fixture
def asked(server, tokenizer, samples):
    """The costs that a server gives which answers by this plan."""

    def ask(*plan, **patience):
        server.plan = list(plan) or server.plan
        source = RemoteCost(server.url, dataclasses.replace(QUICK, **patience))
        return costs_of(source, samples)

    return ask


def stopped(server, what):
    """The whole message."""
    return (
        f"cost server {server.url} failed on a batch of 3, first prompt 'plain-ba': {what}; the run stops"
        " rather than train without costs; mend the server, then resume from the last checkpoint"
    )


@pytest.mark.parametrize(
    "text", ['{"rewards": [0.5, 1.5, 2.5]}', '{"costs": [0.5, 1.5, 2.5]}', "[0.5, 1.5, 2.5]"]
)
def test_a_server_answers_one_request_a_rollout(text, asked, server):
    assert asked((200, text, 0.0)) == [0.5, 1.5, 2.5]
    assert server.requests == [ASKED]


def test_several_servers_rate_a_share_each_in_order(server, tokenizer, samples):
    """Addresses with commas between them, as --reward.remote_url has them."""

    def rate(handler):
        asked = server.requests[-1]
        offset = 100.0 if handler.path.startswith("/second") else 0.0
        handler.answer(200, json.dumps([offset + len(query) for query in asked["query"]]), 0.0)

    server.plan = [rate]
    second = server.url.replace("/costs", "/second,part")
    lengths = [float(len(query)) for query in QUERIES]
    source = RemoteCost(f"{server.url},{second}", QUICK)
    assert source.name == f"cost server {server.url}, {second}"
    assert costs_of(source, samples) == [*lengths[:2], 100.0 + lengths[2]]
    # More servers than samples: the last are not asked.
    many = RemoteCost(",".join([server.url] * 5), QUICK)
    before = len(server.requests)
    assert costs_of(many, samples) == lengths
    assert len(server.requests) - before == 3


def test_a_large_rollout_goes_in_requests_of_a_bounded_size_several_at_once(server):
    """Costs stay in the order of the answers; no request is larger than the batch, none waits for all."""
    busy, most = [], []

    def rate(handler):
        busy.append(1)
        most.append(len(busy))
        time.sleep(0.05)
        busy.pop()
        handler.answer(200, json.dumps([float(query) for query in handler.asked["query"]]), 0.0)

    server.plan = [rate]
    texts = [RatedText("", str(i)) for i in range(50)]
    found = costs_of(RemoteCost(server.url, QUICK, batch=7), [texts[:20], texts[20:]])
    assert found == [float(i) for i in range(50)]
    sizes = [len(asked["query"]) for asked in server.requests]
    assert (len(sizes), max(sizes), sum(sizes)) == (8, 7, 50)
    assert 2 <= max(most) <= 4


def test_of_several_servers_the_one_that_fails_is_named(server, tokenizer, samples):
    def rate(handler):
        if handler.path.startswith("/second"):
            handler.answer(403, "no", 0.0)
        else:
            handler.answer(200, json.dumps([1.0] * len(server.requests[-1]["query"])), 0.0)

    server.plan = [rate]
    second = server.url.replace("/costs", "/second?key=hunter2")
    with pytest.raises(CostError) as error:
        costs_of(RemoteCost(f"{server.url},{second}", QUICK), samples)
    shown = second.replace("key=hunter2", "***")
    assert str(error.value).startswith(f"cost server {shown} failed on a batch of 1, first prompt 'plain-bo'")
    assert "hunter2" not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize("failure", [408, 425, 429, 500, 502, 503, 504, reset, half], ids=str)
def test_a_passing_failure_is_tried_again(failure, asked, server):
    failure = failure if callable(failure) else (failure, "busy", 0.0)
    assert asked(failure, failure, GOOD) == [0.5, 1.5, 2.5]
    assert server.requests == [ASKED] * 3


@pytest.mark.parametrize(
    ("answer", "pattern"),
    [
        ((500, "{}", 0.0), "it answered 500 Internal Server Error"),
        ((429, "{}", 0.0), "it answered 429 Too Many Requests"),
        (reset, "(ConnectionResetError|RemoteDisconnected|ProtocolError): .*"),
        (half, r"IncompleteRead: .*"),
    ],
    ids=str,
)
def test_a_failure_that_stays_stops_the_run(answer, pattern, asked, server):
    with pytest.raises(CostError) as error:
        asked(answer)
    message = re.escape(stopped(server, "WHAT")).replace("WHAT", rf"{pattern}, in 6 attempts over \d\.\d s")
    assert re.fullmatch(message, str(error.value))
    assert server.requests == [ASKED] * 6


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ((404, "no such model", 0.0), "it answered 404 Not Found: 'no such model'"),
        ((401, "who are you?", 0.0), "it answered 401 Unauthorized: 'who are you?'"),
        ((204, "", 0.0), "it answered 204 No Content: ''"),
        ((200, "{rewards: no}", 0.0), "its answer is not JSON (JSONDecodeError): '{rewards: no}'"),
        (
            (200, "<html>sign in</html>", 0.0),
            "its answer is not JSON (JSONDecodeError): '<html>sign in</html>'",
        ),
        ((200, "", 0.0), "its answer is not JSON (JSONDecodeError): ''"),
        (
            (302, "", 0.0, {"Location": "https://u:p@elsewhere/x?key=k"}),
            "it answered 302 Found, a redirect to https://***@elsewhere/x?***, which is not followed; name"
            " the final address",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_failure_that_cannot_pass_stops_the_run_at_once(answer, what, asked, server):
    with pytest.raises(CostError) as error:
        asked(answer)
    assert str(error.value) == stopped(server, what)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"rewards": [1, 2]}', "gave 2 costs for 3 samples"),
        ('{"rewards": [1, NaN, 2]}', "gave the cost nan for sample 1, prompt 'plain-be plain-bi'"),
        ('{"rewards": [null, 1, 2]}', "gave the cost None for sample 0, prompt 'plain-ba'"),
        ('{"rewards": ["1", 1, 2]}', "gave the cost '1' for sample 0, prompt 'plain-ba'"),
        ('{"detail": "model not loaded"}', "answered with the keys ['detail']"),
        ("null", "gave None"),
        ("[1e999, 1, 2]", "gave the cost inf for sample 0, prompt 'plain-ba'"),
    ],
)
def test_an_answer_that_holds_no_costs_stops_the_run(text, message, asked, server):
    with pytest.raises(CostError) as error:
        asked((200, text, 0.0))
    assert str(error.value).startswith(f"cost server {server.url} {message}")
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [(200, '{"rewards": [1, 2, 3]}', 0.5), trickle], ids=str)
def test_a_slow_server_is_given_up(answer, asked, server):
    started = time.perf_counter()
    with pytest.raises(
        CostError, match=r"first prompt 'plain-ba': (Read)?Timeout(Error)?: .*, in 2 attempts"
    ):
        asked(answer, answer=0.1, attempts=2)
    assert time.perf_counter() - started < 0.5
    assert len(server.requests) == 2


def test_a_server_that_is_slow_once_is_asked_again(asked):
    assert asked((200, "[9, 9, 9]", 0.6), GOOD, answer=0.3) == [0.5, 1.5, 2.5]


def test_the_deadline_holds_for_all_attempts_together(asked, server):
    started = time.perf_counter()
    with pytest.raises(CostError, match=r", in \d+ attempts over .*; the deadline is 1 s;"):
        asked((503, "", 0.0), attempts=1000, pause=0.1, longest_pause=0.1, deadline=1.0)
    assert time.perf_counter() - started < 1.5
    assert 2 <= len(server.requests) <= 20
    started = time.perf_counter()
    with pytest.raises(CostError, match=r"deadline is 0\.3 s"):
        asked((200, "[1, 2, 3]", 1.0), answer=100, deadline=0.3)
    assert time.perf_counter() - started < 0.8


def test_a_server_may_ask_for_a_pause(asked, server):
    assert asked((429, "", 0.0, {"Retry-After": "1"}), GOOD) == [0.5, 1.5, 2.5]
    assert server.times[1] - server.times[0] >= 1.0
    nonsense = (503, "", 0.0, {"Retry-After": "soon"})
    assert asked(nonsense, nonsense, nonsense, GOOD) == [0.5, 1.5, 2.5]


def test_a_pause_beyond_the_deadline_stops_the_run_at_once(asked, server):
    started = time.perf_counter()
    with pytest.raises(CostError) as error:
        asked((429, "", 0.0, {"Retry-After": "3600"}))
    assert time.perf_counter() - started < 1
    assert (
        "it answered 429 Too Many Requests, in 1 attempt over 0.0 s, and asks for a pause of 3600 s; the"
        " deadline is 10 s;" in str(error.value)
    )
    assert len(server.requests) == 1


def test_a_server_that_goes_down_mid_way_stops_the_run(server, tokenizer, samples):
    source = RemoteCost(server.url, QUICK)
    assert costs_of(source, samples) == [0.5, 1.5, 2.5]
    server.socket.close()  # nobody listens any more
    server.plan = [reset]  # and the connection that is kept alive is cut
    with pytest.raises(CostError, match=r"first prompt 'plain-ba': .*in 6 attempts"):
        costs_of(source, samples)


def test_a_closed_port_is_named(server, tokenizer, samples):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/costs"
        with pytest.raises(CostError) as error:
            costs_of(RemoteCost(url, QUICK), samples)
    assert str(error.value).startswith(f"cost server {url} failed on a batch of 3, first prompt 'plain-ba': ")
    assert "Connection refused, in 6 attempts" in str(error.value)


@pytest.mark.parametrize(
    "plan", [(403, "", 0.0), (503, "", 0.0), reset, None, (200, "https://h/?key=hunter2", 0.0)], ids=str
)
def test_no_secret_of_the_address_is_shown(plan, server, tokenizer, samples):
    address = server.url.split("//")[1]
    if plan is None:
        address = "127.0.0.1:9/costs"  # nobody listens there
    else:
        server.plan = [plan]
    source = RemoteCost(f"http://user:hunter2@{address}?key=hunter2", QUICK)
    with pytest.raises(CostError) as error:
        costs_of(source, samples)
    assert str(error.value).startswith(f"cost server http://***@{address}?*** failed on a batch of 3")
    shown = "".join(traceback.format_exception(error.value))
    assert "hunter2" not in shown + str(error.value) + source.name


def test_an_address_that_is_none_is_named(tokenizer, samples):
    for url in ("http://", "ftp://h/", "http://h:port/", "http://.x/"):
        with pytest.raises(CostError, match=r"failed on a batch of 3.*: its address cannot be used: "):
            costs_of(RemoteCost(url, QUICK), samples)


def test_a_certificate_is_verified(server, tokenizer, samples, tmp_path, monkeypatch):
    key, certificate = certificate_of_127_0_0_1(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    with pytest.raises(
        CostError, match=r"its certificate was refused: SSLCertVerificationError: .*self-signed"
    ):
        costs_of(RemoteCost(url, QUICK), samples)
    assert server.requests == []
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert costs_of(RemoteCost(url, QUICK), samples) == [0.5, 1.5, 2.5]


def certificate_of_127_0_0_1(folder):
    """A self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, plain[1], plain[0]))
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder / "key.pem", folder / "certificate.pem"


def test_pauses_grow_with_jitter_and_leave_the_training_s_random_numbers_alone():
    state = random.getstate()
    server = RatingServer("http://h/", Patience())
    pauses = [[server._pause(attempt) for attempt in (1, 2, 3, 4, 5, 9)] for _ in range(2000)]
    assert random.getstate() == state
    assert np.max(pauses, axis=0) == pytest.approx([1, 2, 4, 8, 16, 30], rel=0.02)
    assert np.min(pauses, axis=0) == pytest.approx([0.5, 1, 2, 4, 8, 15], rel=0.02)


class Played:
    """A source that gives these batches."""

    name = "judge"

    def __init__(self, *batches):
        self.batches = list(batches)

    def begin(self, samples_list):
        return samples_list

    def finish(self, handle):
        return self.batches.pop(0)


def test_a_server_that_gives_one_cost_to_everything_stops_the_run(server, tokenizer, samples):
    server.plan = [GOOD, GOOD, (200, "[0.5, 0.5, 0.5]", 0.0)]
    source = VaryingCosts(RemoteCost(server.url, QUICK))
    for _ in range(4):
        costs_of(source, samples)
    with pytest.raises(CostError) as error:
        costs_of(source, samples)
    assert str(error.value) == (
        f"cost server {server.url} gave the cost 0.5 to all samples of 3 batches in a row (3 in the last); a"
        " cost must tell answers apart; check that it sees the answers and that its model is loaded"
    )


def test_constant_batches_now_and_then_are_let_be():
    batches = [[1.0, 1.0], [2.0, 2.0], [1.0, 2.0]] * 5
    source = VaryingCosts(Played(*batches))
    assert [source.finish(None) for _ in batches] == batches


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
@pytest.mark.parametrize("size", [2, 64])
def test_a_flag_may_begin_with_one_value_and_that_is_said_once(value, size):
    other = 0.0 if value else 1.0
    batches = [[value] * size] * 9 + [[other, *[value] * (size - 1)]] + [[value] * size] * 9
    source = VaryingCosts(Played(*batches))
    remarks = []
    for batch in batches:
        assert source.finish(None) == batch
        remarks.append(source.remark)
    assert [place for place, remark in enumerate(remarks) if remark] == [2]
    assert remarks[2] == (
        f"the cost of judge is {value:g} for all samples of the first 3 batches ({3 * size} samples), which"
        " teaches nothing; a flag may begin so; if it should not, check that its source sees the answers and"
        " that its model is loaded"
    )


@pytest.mark.parametrize("first", [0.5, 2.0, -3.0])
def test_what_is_no_flag_may_not_begin_so(first):
    source = VaryingCosts(Played(*[[first] * 4] * 3))
    source.finish(None), source.finish(None)
    with pytest.raises(CostError, match=f"gave the cost {first:g} to all samples of 3 batches in a row"):
        source.finish(None)
    mixed = VaryingCosts(Played([0.0] * 4, [0.0] * 4, [0.5] * 4))
    mixed.finish(None), mixed.finish(None)
    with pytest.raises(CostError, match="3 batches in a row"):
        mixed.finish(None)


def test_a_cost_of_a_few_steps_may_be_the_same_for_all():
    batches = [[0.0, 1.0] * 20, *[[0.0] * 40] * 10]
    source = VaryingCosts(Played(*batches))
    assert [source.finish(None) for _ in batches] == batches
    source = VaryingCosts(Played(np.arange(40.0).tolist(), *[[0.0] * 40] * 3))
    with pytest.raises(CostError, match="3 batches in a row"):
        [source.finish(None) for _ in range(4)]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://judge.example/costs", "https://judge.example/costs"),
        ("https://u:p@judge.example:8443/costs?key=1#x", "https://***@judge.example:8443/costs?***"),
        ("http://token@[::1]:80/", "http://***@[::1]:80/"),
        ("http://h:port/?key=1", "***"),
        ("cost.py", "cost.py"),
    ],
)
def test_secrets_of_an_address_are_starred(url, shown):
    assert redact_url(url) == shown
    if url.startswith("http"):
        assert redact_text(f"see {url} and '{url}'") == f"see {shown} and '{shown}'"


def test_the_profile_names_the_source(cost_file, tokenizer):
    plain = load_profile("medical")
    path = cost_file("def cost_func(q, p, l): return [0] * len(q)")
    (source,) = cost_sources(plain.with_overrides({"cost.function": path})).values()
    assert type(source) is VaryingCosts
    assert (type(source.source), source.name) == (FunctionCost, f"cost function {path}")
    served = plain.with_overrides({"cost.remote_url": "http://h/"})
    (source,) = cost_sources(served, patience=QUICK).values()
    assert [server._patience for server in source.source._servers] == [QUICK]
    assert (type(source.source), source.name) == (RemoteCost, "cost server http://h/")
    message = (
        "profile medical has no cost for cost; add cost: {model: …}, {classifier: …}, {judge: …},"
        " {ensemble: …}, {function: …} or {remote_url: …}"
    )
    with pytest.raises(CostError, match=f"^{re.escape(message)}$"):
        cost_sources(plain)


def test_a_cost_that_the_profile_does_not_know_stops_the_run(cost_file, samples):
    source = VaryingCosts(
        FunctionCost(cost_file("def cost_func(q, p, l):\n    return [0, 1, 0.5]\n")), (0, 1)
    )
    with pytest.raises(CostError) as error:
        costs_of(source, samples)
    assert str(error.value) == (
        f"{source.name} gave the cost 0.5, and the profile says that it has the values 0, 1 alone; mend the"
        " source, or the profile's values"
    )


def test_ray_s_page_on_memory_is_a_sentence():
    told = (
        "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2,"
        " ID: 76be) was 22.41GB / 23.54GB (0.9518), which exceeds the memory usage threshold of 0.95; Top 10"
        " memory users: PID\tMEM(GB)\tCOMMAND"
    )
    assert reason(ray.exceptions.OutOfMemoryError(told)) == (
        "the node ran out of memory, 22.41GB of 23.54GB were in use, and Ray ended the process; end other"
        " programs, take a smaller model or smaller batches, or raise RAY_memory_usage_threshold"
    )
    assert reason(ray.exceptions.RayError("lost")) == "lost"
