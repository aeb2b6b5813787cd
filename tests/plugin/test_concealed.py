"""Secrets among OpenRLHF's arguments: whole where they are used, hidden where all arguments are printed."""

import pickle
from argparse import Namespace

from openrlhf_rad.secrets import Concealed, conceal

SECRET = "hunter2-0123456789"


def test_a_printed_namespace_shows_no_secret(good_args):
    address = f"http://me:{SECRET}@host/get?key={SECRET}"
    args = good_args("--logger.wandb.key", SECRET, "--reward.remote_url", address)
    conceal(args)
    assert SECRET not in str(args)
    assert args.logger.wandb.key == SECRET
    assert [*args.reward.remote_url][-1] == address or args.reward.remote_url == address
    # Columns of a data set are no secrets.
    assert type(args.data.input_key) is str
    assert "key='***'" in str(args)


def test_it_is_a_text_as_any_other():
    secret = pickle.loads(pickle.dumps(Concealed(SECRET)))
    assert secret == SECRET
    assert f"{secret}" == SECRET
    assert repr(secret) == "'***'"
    assert repr(Concealed("https://me:pw@h/x")) == "'https://***@h/x'"


def test_nested_lists_are_covered():
    args = Namespace(a=Namespace(url=["http://u:pw@h/", "reward.py"]), token=None, api_token="abc")
    conceal(args)
    assert "pw" not in str(args)
    assert "abc" not in str(args)
    assert args.a.url[1] == "reward.py"
    assert type(args.a.url[1]) is str
