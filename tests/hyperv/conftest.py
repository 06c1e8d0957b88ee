"""Certificates for endpoints over TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.winrm.certificates import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def server(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("127.0.0.1")


@pytest.fixture(scope="session")
def client(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("admin")
