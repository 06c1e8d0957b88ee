"""The site as OpenFlow tables: compile, compare, and lead a cookie back to its rule."""

from vswitch.pipeline.compile import Compiler, HostProgram, SwitchProgram, check_lookups, compile_site
from vswitch.pipeline.diff import FlowChange, difference
from vswitch.pipeline.flow import Flow, Purpose
from vswitch.pipeline.forwarding_flows import LEARNED_COOKIE
from vswitch.pipeline.limit_meters import Meter, MeterChange, meter_difference
from vswitch.pipeline.mark import MARK_COOKIE, MARK_TABLE, mark_of, mark_text, parse_mark
from vswitch.pipeline.tables import LEARNED_TABLES, Table

__all__ = [
    "LEARNED_COOKIE",
    "LEARNED_TABLES",
    "MARK_COOKIE",
    "MARK_TABLE",
    "FlowChange",
    "Compiler",
    "Flow",
    "HostProgram",
    "Meter",
    "MeterChange",
    "Purpose",
    "SwitchProgram",
    "Table",
    "check_lookups",
    "compile_site",
    "difference",
    "mark_of",
    "mark_text",
    "meter_difference",
    "parse_mark",
]
