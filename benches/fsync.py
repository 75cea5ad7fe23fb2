#!/usr/bin/env python3
"""Measures how long this disk takes to make a write durable: 4 KiB appended, then fsync, for some seconds.

    benches/fsync.py FOLDER [SECONDS]

Durable submits and confirmed publishes wait for exactly this, and one machine's disk varies tenfold
between hours, so a rate means something only beside the calibration of its own run. Prints JSON.
"""

import json
import os
import statistics
import sys
import tempfile
import time

BLOCK = os.urandom(4096)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    seconds = float(sys.argv[2]) if len(sys.argv) == 3 else 3.0
    latencies = []
    with tempfile.NamedTemporaryFile(dir=sys.argv[1], prefix="fsync-") as file:
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            file.write(BLOCK)
            file.flush()
            os.fsync(file.fileno())
            latencies.append(time.perf_counter() - start)
    cuts = statistics.quantiles(latencies, n=100)
    result = {
        "benchmark": "append 4 KiB and fsync",
        "per_second": round(len(latencies) / sum(latencies), 1),
        "p50_ms": round(cuts[49] * 1000, 3),
        "p99_ms": round(cuts[98] * 1000, 3),
    }
    print(json.dumps(result, indent=2))


main()
