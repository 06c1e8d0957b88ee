"""Certificates for endpoints over TLS, and a folder in which `vswitch hyperv` runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hyperv_shop import Shop
from tests.support.winrm.certificates import Authority
from tests.support.winrm.runs import PASSWORD


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def server(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("127.0.0.1")


@pytest.fixture(scope="session")
def client(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("admin")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VSWITCH_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("VSWITCH_HYPERV_PASSWORD", PASSWORD)
    monkeypatch.delenv("VSWITCH_INVENTORY", raising=False)
    return Shop(tmp_path)
