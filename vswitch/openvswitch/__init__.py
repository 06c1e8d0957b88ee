"""One private Open vSwitch instance: life cycle, bundles, counters, trace."""
