"""The wheel and the sdist: what they hold, and that they run outside of the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

import vswitch

ROOT = Path(__file__).resolve().parent.parent
IGNORED = shutil.ignore_patterns("__pycache__", "build", "dist", "*.egg-info")
PARTS = ("powershell", "topologies", "vswitch", "docs")
BUILD = "from setuptools import build_meta as b; print(b.build_sdist({out!r})); print(b.build_wheel({out!r}))"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of a copy of the checkout, and its wheel. Nothing is downloaded."""
    source, out = tmp_path_factory.mktemp("source") / "vswitch", tmp_path_factory.mktemp("built")
    source.mkdir()
    for path in ROOT.iterdir():
        if path.name in PARTS:
            shutil.copytree(path, source / path.name, ignore=IGNORED)
        elif path.is_file() and path.name != ".git":
            shutil.copy(path, source)
    code = BUILD.format(out=str(out))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a new virtual environment with the wheel; what it depends on is that of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    ours = {"vswitch", "__editable__"}
    borrowed = folder / "borrowed"
    borrowed.mkdir()
    for entry in Path(pytest.__file__).parents[1].iterdir():
        if not any(entry.name.startswith(name) for name in ours) and entry.suffix != ".pth":
            (borrowed / entry.name).symlink_to(entry)
    (packages / "borrowed.pth").write_text(f"{borrowed}\n")
    install = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    flags = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check"]
    subprocess.run([*install, *flags, str(wheel)], check=True, timeout=120)
    return folder / "bin"


def run(installed: Path, folder: Path, *words: str) -> str:
    """What a program of the new environment prints when it is run in `folder`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [installed / words[0], *words[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    assert not done.stderr
    return done.stdout


def test_nothing_but_vswitch_is_installed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"vswitch", f"vswitch-{vswitch.__version__}.dist-info"}
    assert not [name for name in names if name.startswith("vswitch/tests")]
    shipped = {path.name for path in (ROOT / "topologies").glob("*.yaml")}
    assert {name.rpartition("/")[2] for name in names if name.startswith("vswitch/layouts/")} >= shipped
    data = ["model/services.csv", "model/schema/layout.schema.json", "hyperv/powershell/Vswitch.psm1"]
    data += ["py.typed", "lab/shells/bashrc", "lab/shells/zsh/.zshrc"]
    assert {f"vswitch/{name}" for name in data} <= set(names)


def test_the_sdist_holds_what_the_wheel_is_made_of(built: Path, wheel: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "LICENSE",
        "CHANGELOG.md",
        "README.md",
        "pyproject.toml",
        "powershell/Export-VswitchState.ps1",
    } <= names
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            place = name.replace("vswitch/layouts/", "topologies/")
            place = place.replace("vswitch/hyperv/powershell/", "powershell/Vswitch/")
            assert ".dist-info/" in name or place in names, name


def test_the_wheel_says_what_it_is(installed: Path) -> None:
    (info,) = installed.parent.glob("lib/python*/site-packages/vswitch-*.dist-info")
    about: Distribution = PathDistribution(info)
    assert about.version == vswitch.__version__
    assert about.metadata["License-Expression"] == "Apache-2.0"
    needs = [need for need in about.requires or () if "extra" not in need]
    assert not [need for need in needs if re.match("mininet|os-ken|setuptools|packaging", need)], needs


def test_the_wheel_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "vswitch", "--version") == f"vswitch {vswitch.__version__}\n"
    assert "two-hosts" in run(installed, tmp_path, "vswitch", "layouts")
    copied = run(installed, tmp_path, "vswitch", "layouts", "two-hosts")
    assert copied == "copied two-hosts.yaml\ncopied web-tier.yaml\n"
    assert run(installed, tmp_path, "vswitch", "validate", "two-hosts.yaml").startswith("ok two-hosts.yaml: ")
    answer = run(
        installed, tmp_path, "vswitch", "explain", "client", "web01", "tcp/445", "-f", "two-hosts.yaml"
    )
    assert "deny-the-rest (web-tier.yaml:18:5)" in answer
    assert "usage: " in run(installed, tmp_path, "python", "-m", "vswitch.controller", "--help").lower()
    code = (
        "from vswitch.hyperv.winrm.shipped_module import module_text; import vswitch;"
        "print(vswitch.__file__, len(module_text()))"
    )
    place, length = run(installed, tmp_path, "python", "-c", code).split()
    assert Path(place).is_relative_to(installed.parent)
    assert int(length) == (ROOT / "powershell" / "Vswitch" / "Vswitch.psm1").stat().st_size


def test_there_is_one_version() -> None:
    module = ROOT / "powershell" / "Vswitch"
    for file, name in (("Vswitch.psd1", "ModuleVersion"), ("Vswitch.psm1", r"\$script:ModuleVersion")):
        found = re.findall(rf"^\s*{name}\s*=\s*'(.*)'$", (module / file).read_text("utf-8"), flags=re.M)
        assert found == [vswitch.__version__], file
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.findall(r"^## \[(.*?)\]", text, flags=re.M)[0] in (vswitch.__version__, "Unreleased")
