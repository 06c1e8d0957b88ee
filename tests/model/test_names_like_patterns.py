"""Names with the characters of patterns: nothing is decided in silence between a name and a pattern."""

from __future__ import annotations

import glob
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.model_files import reader
from vswitch.errors import InputError, InputErrors
from vswitch.hyperv.fleet.inventory import load_inventory
from vswitch.model import load_site
from vswitch.model.names import matching
from vswitch.model.problems import FieldError

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = """\
name: names
hosts:
  hv01:
    switches: {vs: {type: Private}}
    vms:
%s
"""
POLICY = "%sextended_acls:\n  - {name: r, adapters: %s, direction: Inbound, action: Deny}\n"


def denied(vms: list[str], adapters: str, groups: str = "") -> set[str]:
    """The adapters that a rule for `adapters` reaches, as `VM/adapter`."""
    layout = LAYOUT % "\n".join(f"      {each!r}: {{adapters: [{{switch: vs}}]}}" for each in vms)
    policy = POLICY % (groups, adapters)
    site = load_site("l.yaml", ["p.yaml"], read=reader(layout=layout, policy=policy))
    return {each.guest for each in site.adapters if each.extended_acls}


def mistake(vms: list[str], adapters: str, groups: str = "") -> InputError:
    with pytest.raises(InputErrors) as caught:
        denied(vms, adapters, groups)
    (found,) = caught.value.errors
    return found


def test_a_vm_is_meant_by_its_own_name() -> None:
    """`app[1]` is not `app1`: the Deny would have been on the wrong machine, or on none."""
    assert denied(["app[1]", "web01"], "'app[1]'") == {"app[1]"}
    assert denied(["app[1]", "web01"], "'APP[1]'") == {"app[1]"}
    assert denied(["a*", "b"], "'a*'") == {"a*"}
    assert denied(["what?"], "'what?'") == {"what?"}


def test_a_name_that_matches_others_as_a_pattern_is_a_mistake_with_the_spelling_for_it() -> None:
    found = mistake(["app1", "app[1]"], "'app[1]'")
    assert "'app[1]' is a name, and a pattern that matches 'app1' too" in found.message
    assert "'app[[]1]'" in found.hint
    assert str(found.where) == "p.yaml:2:25"
    assert denied(["app1", "app[1]"], "'app[[]1]'") == {"app[1]"}
    assert denied(["app1", "app[1]"], "app1") == {"app1"}
    assert "'web[*]'" in mistake(["web*", "web01"], "'web*'").hint
    assert "a pattern that matches" in mistake(["web*", "web01"], "g", "groups: {g: ['web*']}\n").message


def test_the_names_of_adapters_and_hosts_are_taken_the_same_way() -> None:
    layout = LAYOUT % "      web: {adapters: [{switch: vs, name: 'n[1]'}, {switch: vs, name: n1}]}"
    with pytest.raises(InputErrors) as caught:
        load_site("l.yaml", ["p.yaml"], read=reader(layout=layout, policy=POLICY % ("", "'web/n[1]'")))
    assert "'n[[]1]'" in str(caught.value)
    layout = layout.replace("hv01:", "'hv[1]':").replace("{type: Private}", "{type: Internal}")
    site = load_site("l.yaml", ["p.yaml"], read=reader(layout=layout, policy=POLICY % ("", "'host:hv[1]'")))
    assert [each.guest for each in site.adapters if each.extended_acls] == ["hv[1]"]


def test_a_group_is_not_called_like_a_pattern_for_others() -> None:
    found = mistake(["web01", "sql01"], "'web*'", "groups: {'web*': [sql01]}\n")
    assert "the group 'web*' is called like a pattern that matches 'web01'" in found.message
    assert denied(["web01", "sql01"], "'all*'", "groups: {'all*': [sql01]}\n") == {"sql01"}


def test_hosts_of_an_inventory_are_taken_the_same_way() -> None:
    def chosen(hosts: str, word: str, groups: str = "{}") -> list[str]:
        text = f"groups: {groups}\nhosts: {hosts}\n"
        return [each.name for each in load_inventory("i.yaml", read=lambda _: text).select([word])]

    assert chosen("{'hv[1]': {address: a}, hv2: null}", "hv[1]") == ["hv[1]"]
    assert chosen("{hv1: null, hv2: null}", "HV[1]") == ["hv1"]
    for hosts, groups in (
        ("{'hv[1]': {address: a}, hv1: null}", "{}"),
        ("{hv1: null, sql: {groups: 'hv[1]'}}", "{'hv[1]': {port: 5985}}"),
    ):
        with pytest.raises(InputError, match="a pattern that matches"):
            chosen(hosts, "hv[1]", groups)


NAMES = st.lists(
    st.text(st.sampled_from("ab1[]*?!-"), min_size=1, max_size=5), min_size=1, max_size=6, unique=True
)


@given(names=NAMES)
def test_a_name_means_itself_or_is_refused_and_its_escaped_form_always_means_it(names: list[str]) -> None:
    for name in names:
        try:
            found = matching(name, names)
        except FieldError as error:
            found = [name] if glob.escape(name) in error.hint else []
        assert found == [name]
        if glob.escape(name) not in names:
            assert matching(glob.escape(name), names) == [name]


def test_a_pattern_longer_than_a_name_is_refused_at_once() -> None:
    """Reading one takes time with the square of its brackets."""
    program = """
from tests.model.test_names_like_patterns import mistake
for text in ("[a" * 20_000 + "b", "web01/" + "[a" * 20_000):
    found = mistake(["web01"], repr(text))
    assert "characters" in found.message and "300" in found.hint, found
    assert len(str(found)) < 400
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=ROOT)
    assert matching(glob.escape("[" * 100), ["[" * 100]) == ["[" * 100]
