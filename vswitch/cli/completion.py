"""What Tab offers: commands and options, and the names that a running lab, a layout or an inventory holds.

A shell asks by starting `vswitch` with the line so far in the environment. The answer is a line for each
word that fits: the word, a tab, what it means. Offers never fail: no lab, a lab that hangs or a wrong file
are no offers, after a second at most. Nothing in an answer is code to a shell: names come from files and
hosts that others wrote.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from importlib import import_module
from typing import Any

import typer

from vswitch.cli.page import verbatim
from vswitch.cli.words import COMPLETE, GROUPS, LINE, OURS, split_global, split_line

__all__ = [
    "ANY_FILE",
    "YAML",
    "answer",
    "any_files",
    "ends",
    "guests",
    "hosts",
    "inventory_hosts",
    "lab_names",
    "shipped_layouts",
    "switches",
    "tables",
    "traffic",
    "use_own_scripts",
    "yaml_files",
]

_PATIENCE = 1.0  # seconds

#: In the place of a word's meaning: the shell is to complete the names of files.
YAML, ANY_FILE = "<yaml>", "<file>"

_BASH = """
%(complete_func)s() {
    local answer value meaning quoted typed=${COMP_LINE:0:COMP_POINT} current=${COMP_WORDS[COMP_CWORD]}
    typed=${typed##*[[:space:]]}
    COMPREPLY=()
    # Cut by hand: with a tab in IFS, read drops the empty word in front of it.
    while IFS= read -r answer; do
        value=${answer%%%%$'\\t'*} meaning=${answer#*$'\\t'}
        case $meaning in
            "<yaml>")
                compopt -o filenames -o default
                mapfile -t COMPREPLY < <(
                    compgen -f -X '!*.yaml' -- "$current"; compgen -f -X '!*.yml' -- "$current"
                    compgen -d -- "$current")
                return ;;
            "<file>") compopt -o default; return ;;
        esac
        # Bash replaces what follows the last : or = only.
        if [[ $typed == *[:=]* ]]; then value=${value#"${typed%%"${typed##*[:=]}"}"}; fi
        printf -v quoted %%q "$value"
        case $current in [\\"\\']*) quoted=$value ;; esac
        COMPREPLY+=("$quoted")
        if [[ $value == */ ]]; then compopt -o nospace; fi
    done < <(
        %(autocomplete_var)s=lines _VSWITCH_LINE="${COMP_LINE:0:COMP_POINT}" "${1/#\\~/$HOME}" 2>/dev/null)
}

complete -F %(complete_func)s %(prog_name)s
"""

_ZSH = """
#compdef %(prog_name)s

%(complete_func)s() {
    local answer value meaning
    local -a values shown folders
    while IFS= read -r answer; do
        value=${answer%%%%$'\\t'*} meaning=${answer#*$'\\t'}
        case $meaning in
            "<yaml>") _files -g '*.(yaml|yml)(-.)'; return ;;
            "<file>") _files; return ;;
        esac
        if [[ $value == */ ]]; then
            folders+=("$value")
        else
            values+=("$value")
            shown+=("$value${meaning:+  -- $meaning}")
        fi
    done < <(
        %(autocomplete_var)s=lines _VSWITCH_LINE="${(j: :)words[1,CURRENT-1]} $PREFIX" \\
            ${~words[1]} 2>/dev/null)
    compadd -S '' -a -- folders
    compadd -l -d shown -a -- values
}

compdef %(complete_func)s %(prog_name)s
"""

_FISH = """
function %(complete_func)s
    set -l words (commandline -opc)
    set -l line (commandline -cp | string collect)
    for answer in (env %(autocomplete_var)s=lines _VSWITCH_LINE="$line" $words[1] 2>/dev/null)
        switch $answer
            case "*<yaml>"
                __fish_complete_suffix .yaml
            case "*<file>"
                __fish_complete_path
            case "*"
                echo $answer
        end
    end
end

complete --command %(prog_name)s --no-files --arguments "(%(complete_func)s)"
"""


def use_own_scripts() -> None:
    """Let --show-completion and --install-completion hand out the scripts of this module.

    Typer's own paste names into code and split them at blanks, which most adapters' names have.
    """
    if not any(word.endswith("-completion") for word in sys.argv):
        return
    with suppress(ImportError, AttributeError):  # another Typer: its own scripts work with most names
        from typer import _completion_shared

        _completion_shared._completion_scripts.update(bash=_BASH, zsh=_ZSH, fish=_FISH)


def answer(app: typer.Typer) -> int:
    """Print what a shell asks for; returns the exit status. Never raises, and prints nothing on errors."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        try:
            if os.environ[COMPLETE] != OURS:
                return int(app(prog_name="vswitch", standalone_mode=False) or 0)
            for value, meaning in offers(app, os.environ.get(LINE, "")):
                verbatim(f"{value}\t{meaning}\n")
        except SystemExit as done:  # this is how Typer ends
            return done.code if isinstance(done.code, int) else 0
        except Exception:
            return 1
    return 0


def offers(app: typer.Typer, line: str) -> Iterator[tuple[str, str]]:
    """The words that may stand at the end of a command line, each with its meaning or ""."""
    from typer._completion_classes import FishComplete

    words, incomplete = split_line(line)
    path, moved, rest = split_global(words[1:])
    if rest and not path:  # an option in front of the command: ps has them all
        path = ("ps",)
    elif not path or path[-1] in GROUPS:
        moved = []
    command: Any = typer.main.get_command(app)
    completer = FishComplete(command, {}, "vswitch", COMPLETE)
    option = incomplete[: incomplete.index("=") + 1] if incomplete[:1] == "-" and "=" in incomplete else ""
    for item in completer.get_completions([*path, *moved, *rest], incomplete):
        value = f"{option}{item.value}"
        if value.isprintable() and "\\" not in value:  # what a terminal or a shell could take for orders
            yield value, " ".join((item.help or "").split())


# ---------------------------------------------------------------- what there is to name


@contextmanager
def _silent(*modules: str) -> Iterator[None]:
    """End what takes longer than a second, once `modules` are loaded, and let no error out."""

    def late(*_: object) -> None:
        raise TimeoutError

    with suppress(ImportError):
        for module in modules:
            import_module(module)
    if not hasattr(signal, "setitimer"):  # Windows, where the shells of this module are rare
        with suppress(Exception):
            yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
    try:
        with suppress(Exception):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _known(ctx: typer.Context) -> dict[str, Any]:
    """What the layout given, or else the lab, has to name."""
    if layout := ctx.params.get("layout"):
        from vswitch.cli.files import load
        from vswitch.model.name_lookup import names_of

        site, _ = load(layout, ctx.params.get("policy"))
        return dict(names_of(site))
    from vswitch.cli.choosing import choose_lab
    from vswitch.lab.process.lab_requests import names_in
    from vswitch.patience import Patience

    within = Patience(_PATIENCE, _PATIENCE, _PATIENCE)
    return dict(names_in(choose_lab(ctx.params.get("lab")), within=within))


Offer = Callable[[typer.Context, str], list[str]]


def _from_known(choose: Callable[[dict[str, Any], str], list[str]]) -> Offer:
    def offer(ctx: typer.Context, incomplete: str) -> list[str]:
        with _silent(
            "vswitch.model.resolving.loader" if ctx.params.get("layout") else "vswitch.lab.process.client"
        ):
            return choose(_known(ctx), incomplete)
        return []

    return offer


def _ends(known: dict[str, Any], incomplete: str) -> list[str]:
    guest, slash, _ = incomplete.partition("/")
    if not slash:
        return list(known["guests"])
    return [f"{guest}/{adapter}" for adapter in known["guests"][guest]["adapters"]]


guests = _from_known(lambda known, _: list(known["guests"]))
ends = _from_known(_ends)
switches = _from_known(lambda known, _: list(known["switches"]))


def hosts(ctx: typer.Context) -> list[str]:
    """The hosts of the layout given."""
    if ctx.args:  # where an option's value is missing, click leaves the arguments alone
        ctx.params["layout"] = ctx.args[0]
    with _silent("vswitch.model.resolving.loader"):
        return list(_known(ctx)["hosts"])
    return []


def traffic(ctx: typer.Context, incomplete: str) -> list[str]:
    """What the destination listens on and the forms of TRAFFIC; known services once something is typed."""
    from vswitch.model import service_names as services

    found = ["icmp"]
    with _silent(
        "vswitch.model.resolving.loader" if ctx.params.get("layout") else "vswitch.lab.process.client"
    ):
        named = str(ctx.params.get("destination")).partition("/")[0]
        found += _known(ctx)["guests"][named]["services"]
    protocol, slash, _ = incomplete.partition("/")
    if slash and protocol in ("tcp", "udp"):
        number = {"tcp": 6, "udp": 17}[protocol]
        found += [f"{protocol}/{name}" for name in services.common_names() if services.lookup(name, number)]
    elif incomplete:
        found += services.common_names()
    return list(dict.fromkeys([*found, "tcp/", "udp/", "ip/"]))


def tables() -> list[str]:
    """The OpenFlow tables."""
    from vswitch.pipeline import Table

    return [table.name.lower() for table in Table]


def shipped_layouts() -> list[str]:
    """The layouts that ship with this program."""
    from vswitch.cli import shipped

    return list(shipped.shipped_layouts())


def lab_names() -> list[str]:
    """The labs that run."""
    from vswitch.cli.choosing import running_labs

    with _silent():
        return running_labs()
    return []


def inventory_hosts(ctx: typer.Context) -> list[str]:
    """Hosts and groups of the inventory given, else the hosts of the layout given."""
    with _silent("vswitch.hyperv.fleet.inventory", "vswitch.model.resolving.loader"):
        if inventory := ctx.params.get("inventory"):
            from vswitch.hyperv.fleet.inventory import load_inventory

            loaded = load_inventory(inventory)
            return [*(host.name for host in loaded.hosts), *loaded.groups]
        return list(_known(ctx)["hosts"]) if ctx.params.get("layout") else []
    return []


def yaml_files(incomplete: str) -> list[tuple[str, str]]:
    """Layouts, policies, inventories: the shell knows how to complete the names of files."""
    return [(incomplete, YAML)]


def any_files(incomplete: str) -> list[tuple[str, str]]:
    """Other files, in the same way."""
    return [(incomplete, ANY_FILE)]
