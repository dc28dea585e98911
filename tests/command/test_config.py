"""What a setting may be, and what `admin config` shows of it: wrong ones are named, secrets are not shown."""

from pathlib import Path

import pytest

from command.base.config import Config, describe, load
from command.base.errors import Rejected
from command.service import tls


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("public_url", "fenghuo.example"),
        ("public_url", "https://"),
        ("public_url", "https://user@fenghuo.example"),
        ("public_url", "https://fenghuo.example:99999"),
        ("public_url", "https://[::1"),
        ("parent", "https://[::1"),
        ("parent", "https://city.example:99999"),
        ("parent", "http://city.example"),
        ("redis", "localhost:6379"),
        ("database", "mysql://h/d"),
    ],
)
def test_an_address_that_can_be_none_is_refused_under_the_name_of_its_setting(name: str, value: str) -> None:
    with pytest.raises(Rejected) as refused:
        load({f"FENGHUO_{name.upper()}": value})
    assert refused.value.code == f"config.{name}"
    assert f"FENGHUO_{name.upper()}" in refused.value.hint


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("", ""),
        ("https://Fenghuo.Example/", "https://fenghuo.example"),
        ("https://fenghuo.example:443", "https://fenghuo.example"),
        ("https://fenghuo.example:8443/behind/a/proxy", "https://fenghuo.example:8443"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_pages_come_from_the_origin_that_browsers_make_of_the_public_address(address: str, origin: str) -> None:
    assert load({"FENGHUO_PUBLIC_URL": address}).origin == origin


def test_no_password_is_printed_whichever_setting_it_stands_in() -> None:
    secret = "geheim"
    config = Config(
        database=f"postgresql://fenghuo:{secret}@db.example/fenghuo?password={secret}&sslmode=require",
        redis=f"redis://:{secret}@127.0.0.1/0",
        parent_proxy=f"http://user:{secret}@proxy:3128",
        twilio_proxy_url=f"http://user:{secret}@proxy:3128",
        twilio_auth_token=secret,
        twilio_api_secret=secret,
        metrics_token=secret,
    )
    shown = {name: value for name, value, _, _ in describe(config)}
    assert not [name for name, value in shown.items() if secret in value]
    assert (
        shown["FENGHUO_DATABASE"]
        == "postgresql://fenghuo:********@db.example/fenghuo?password=********&sslmode=require"
    )
    assert shown["FENGHUO_REDIS"] == "redis://:********@127.0.0.1/0"


def test_a_certificate_that_is_missing_or_none_is_named_with_its_file(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    for file in (tmp_path / "missing.pem", junk):
        with pytest.raises(Rejected) as refused:
            tls(Config(tls_certificate=str(file), tls_key=str(file)))
        assert refused.value.code == "config.tls" and str(file) in refused.value.hint
