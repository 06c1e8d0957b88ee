"""Files with hundreds of mistakes: of one kind some are shown, and every other kind is."""

from __future__ import annotations

from pathlib import Path

from tests.support.command_line import LAYOUT, Run

RULE = "  - {name: r%d, adapters: web*, direction: Inbound, action: Allow, protocl: TCP}\n"


def test_mistakes_of_one_kind_are_not_printed_400_times(run: Run, tmp_path: Path) -> None:
    layout = tmp_path / "l.yaml"
    layout.write_text(LAYOUT, encoding="utf-8")
    policy = tmp_path / "p.yaml"
    odd = "  - {name: odd, adapters: nobody, direction: Inbound, action: Allow}\n"
    policy.write_text(
        "extended_acls:\n" + "".join(RULE % number for number in range(400)) + odd, encoding="utf-8"
    )
    ran = run("validate", str(layout), "--policy", str(policy))
    assert ran.status == 2
    assert ran.err.count("unknown key 'protocl'") == 20
    assert "'nobody' matches no adapter" in ran.err
    assert ran.err.rstrip().endswith("and 380 more mistakes like those above")
    assert len(ran.err.splitlines()) < 60
    told = run("validate", str(layout), "--policy", str(policy), "-o", "json").json
    assert [each["message"] for each in told["errors"]].count("unknown key 'protocl'") == 400
