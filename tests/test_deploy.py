"""Do the files of docs/deploy name only what exists?"""

import re
import tomllib
from pathlib import Path

import msgspec

import server
from command.base.config import OUTSIDE, PREFIX, Config

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "docs/deploy"
COMPOSE_ONLY = {"FENGHUO_DB_PASSWORD", "FENGHUO_TLS_DIRECTORY"}  # of compose.env, never seen by the node


def test_every_variable_named_in_the_deployment_files_is_a_setting() -> None:
    known = {PREFIX + setting.name.upper() for setting in msgspec.structs.fields(Config)} | OUTSIDE | COMPOSE_ONLY
    named = {name for path in DEPLOY.iterdir() for name in re.findall(r"\bFENGHUO_[A-Z_]*[A-Z]\b", path.read_text())}
    assert named - known == set()


def test_the_example_settings_are_accepted() -> None:
    settings = tomllib.loads((DEPLOY / "fenghuo.toml").read_text())
    assert msgspec.convert(settings, Config).port == 8443


def test_the_service_calls_the_program_as_it_may_be_called() -> None:
    unit = (DEPLOY / "fenghuo.service").read_text()
    calls = re.findall(r"^Exec\w+=\S+/python server\.py (.*)$", unit, re.M)
    found = [server.parser().parse_args(call.split()) for call in calls]
    assert [(one.command, one.check_config) for one in found] == [(None, True), ("serve", False)]


def test_the_service_gives_up_every_right_it_can() -> None:
    unit = (DEPLOY / "fenghuo.service").read_text().splitlines()
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "AmbientCapabilities=", "CapabilityBoundingSet="):
        assert line in unit


def test_the_image_copies_only_what_is_in_the_checkout() -> None:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    copied = [
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
