"""Run all comparisons and print one table of speed ratios, each measured within one run.

    python -m benchmarks [--quick] [--only PART] [--device cuda] [--json FILE]

A full run takes about two hours on two cores of an otherwise idle machine. With ``--quick`` it
takes minutes and only checks that everything runs; its ratios are meaningless.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.common import machine, make_parser
from benchmarks.parts import HEADER, PARTS, Row, on_gpu


def main() -> None:
    """Run the parts, then print the table."""
    parser = make_parser(__doc__)
    parser.prog = "python -m benchmarks"
    parser.add_argument("--quick", action="store_true", help="small sizes, to check that it runs")
    parser.add_argument("--only", choices=PARTS, help="run only this part")
    parser.add_argument("--json", type=Path, help="also write machine and rows as JSON")
    parser.add_argument("--device", choices=["cuda"], help="featurize: run only the GPU rows")
    args = parser.parse_args()
    if args.device and args.only != "featurize":
        parser.error("--device: only featurize runs on a GPU; add --only featurize")
    about = machine()
    rows: list[Row] = []
    for name in [args.only] if args.only else PARTS:
        for row in (on_gpu if args.device else PARTS[name])(args.quick):
            print(row.markdown(), file=sys.stderr, flush=True)  # a full run takes hours
            rows.append(row)
    for key, text in about.items():
        print(f"{key}: {text}")
    if args.quick:
        print("sizes: --quick, the ratios are meaningless")
    print("", *HEADER, *(row.markdown() for row in rows), sep="\n")
    if args.json:
        record = {**about, "quick": args.quick, "rows": [asdict(row) for row in rows]}
        args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
