"""Addresses of cost servers: variables put in at use, secrets given names before anything is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_rad.errors import ConfigError, ProfileError
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.profile.addresses import filled, sealed, variables

SECRET = "hunter2"


def profile_of(address, **others):
    more = "".join(
        f"\n  {name}: {{risk: mean, cost: {{remote_url: '{one}'}}}}" for name, one in others.items()
    )
    several = f"constraints:{more}\n" if others else ""
    return RiskProfile.from_text(f"risk: mean\ncost: {{remote_url: '{address}'}}\n{several}", "p.yaml")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://host:8080/score", "https://host:8080/score"),
        (f"https://me:{SECRET}@host/s", "https://${@1}:${@2}@host/s"),
        (f"https://{SECRET}@host/s", "https://${@1}@host/s"),
        (
            f"https://host/s?key={SECRET}&model=a&key2={SECRET}",
            "https://host/s?key=${@1}&model=${@2}&key2=${@1}",
        ),
        (f"https://host/s?{SECRET}#x", "https://host/s?${@1}#${@2}"),
        ("https://${USER_}:${PW}@host/s?key=${KEY}", "https://${USER_}:${PW}@host/s?key=${KEY}"),
        (f"https://a:${{PW}}@host/s?key={SECRET}", "https://${@1}:${PW}@host/s?key=${@2}"),
        ("${COST_URL}", "${COST_URL}"),
        ("https://[::1]:5000/s", "https://[::1]:5000/s"),
        (f"https://[{SECRET}/s", "https://${@1}"),
        ("http://a:1/s,https://b/s", "http://a:1/s,https://b/s"),
        (f"http://a/s?key={SECRET},http://me:{SECRET}@b/s", "http://a/s?key=${@1},http://${@2}:${@1}@b/s"),
        ("http://a/s,${COST_URL}", "http://a/s,${COST_URL}"),
    ],
)
def test_secrets_get_names_and_come_back(address, shown):
    profile, values = sealed(profile_of(address))
    assert profile.cost.location == shown.replace("@1", "OPENRLHF_RAD_SECRET_1").replace(
        "@2", "OPENRLHF_RAD_SECRET_2"
    )
    assert SECRET not in profile.to_yaml()
    own = {"USER_": "u", "PW": "p", "KEY": "k", "COST_URL": "http://h/"}
    expected = address
    for name, value in own.items():
        expected = expected.replace(f"${{{name}}}", value)
    assert filled(profile.cost.location, {**own, **values}) == expected
    # The file reads back, has the same hash, and is sealed.
    again = RiskProfile.from_text(profile.to_yaml())
    assert again.cost == profile.cost
    assert again.hash == profile_of(address).hash
    assert sealed(again) == (again, {})


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="'{}$"), max_size=30))
def test_no_query_or_user_survives(word):
    address = f"https://u:pw-{word}@host/p?a=b-{word}"
    profile, values = sealed(RiskProfile.from_text("risk: mean").with_overrides({"cost.remote_url": address}))
    assert filled(profile.cost.location, values) == address


def test_two_sources_stay_two():
    found, _ = sealed(profile_of("http://h/", harm="http://h/?key=1", other="http://h/?key=2"))
    assert [one.cost.location for one in found.constraints] == [
        "http://h/?key=${OPENRLHF_RAD_SECRET_1}",
        "http://h/?key=${OPENRLHF_RAD_SECRET_2}",
    ]
    assert variables(found) == ["OPENRLHF_RAD_SECRET_1", "OPENRLHF_RAD_SECRET_2"]


def test_a_variable_that_is_missing_is_named_without_the_others(monkeypatch):
    monkeypatch.delenv("PW", raising=False)
    monkeypatch.setenv("KEY", SECRET)
    with pytest.raises(ConfigError) as error:
        filled("https://${PW}@host/?key=${KEY}")
    assert str(error.value) == (
        "the address of a cost server, https://${PW}@host/?key=${KEY}, needs ${PW}, which is not set in the"
        " environment; export it before the command"
    )
    with pytest.raises(
        ConfigError, match=r"^\$\{KEY\} gives no address of a cost server; it must start with"
    ):
        filled("${KEY}")


def test_what_is_no_address_is_refused():
    with pytest.raises(ProfileError, match="it must start with http:// or https://"):
        profile_of("ftp://host/${X}")
