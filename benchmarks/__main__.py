"""`python -m benchmarks NAME`: run one benchmark and print it as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks import baselines, harness

BENCHMARKS: dict[str, harness.Benchmark] = {benchmark.name: benchmark for benchmark in baselines.BENCHMARKS}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Figures of this machine, each as a ratio to a peer measured in the same run.",
        epilog="\n".join(f"  {name:<22} {benchmark.about}" for name, benchmark in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=sorted(BENCHMARKS), metavar="NAME", help="one of those below")
    parser.add_argument("--runs", type=int, default=5, help="rounds; contenders alternate within each (5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one throughput sample (3)")
    parser.add_argument("--only", action="append", metavar="CONTENDER", help="leave the others out")
    parser.add_argument("--output", choices=["table", "json"], default="table")
    parser.add_argument("--inside", metavar="CONTENDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    benchmark = BENCHMARKS[options.name]

    if options.inside:
        print(json.dumps(benchmark.sample_inside(options.inside, options.seconds)))
        return 0
    try:
        report = benchmark.run(options.runs, options.seconds, options.only)
    except harness.BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(report.as_dict(), indent=2) if options.output == "json" else report.as_table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
