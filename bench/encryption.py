"""make bench-encryption: how fast messages are encrypted, and in how much memory, beside what openssl makes of AES-256-CTR alone.

    encryption.py PROGRAM [--megabytes 1000] [--turns 7]

PROGRAM is the example `encrypt` of the crate vantage6: it makes whole messages (AES, then base64) out of a stream and drops them. The two take
turns, so that a slow moment of the machine hits both. `openssl speed` knows one core, and AES without base64; a node uses what cores there are.
"""

import argparse
import json
import re
import subprocess

from figures import Series, verdict


def openssl() -> float:
    """Bytes per second in blocks of 16 KiB, where it is fastest."""
    command = ["openssl", "speed", "-elapsed", "-seconds", "1", "-bytes", "16384", "-evp", "aes-256-ctr"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.search(r"^AES-256-CTR +([0-9.]+)k", said, re.M | re.I)[1]) * 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()

    theirs = Series("openssl speed -evp aes-256-ctr, one core", "GB/s")
    ours = Series(f"a message of {options.megabytes} MB encrypted, all cores", "GB/s")
    core = Series("the same, by one core's time", "GB/s")
    back = Series("decrypted again, one core", "GB/s")
    peak = Series("the most memory", "MB")
    for _ in range(options.turns):
        theirs.values.append(openssl() / 1e9)
        made = subprocess.run([options.program, str(options.megabytes)], capture_output=True, text=True, check=True)
        figures = json.loads(made.stdout)
        ours.values.append(figures["encrypted_per_second"] / 1e9)
        core.values.append(figures["encrypted_per_second_of_one_core"] / 1e9)
        back.values.append(figures["decrypted_per_second"] / 1e9)
        peak.values.append(figures["encrypting_peak"] / 1e6)
    for series in (theirs, ours, core, back, peak):
        print(series)
    print()
    print(verdict("speed, as a share of openssl's", ours.median / theirs.median, 0.7, at_least=True))
    print(f"of one core's time, in which base64 is included: {core.median / theirs.median:.2f} of openssl's")
    print(verdict("memory", max(peak.values), 64, " MB"))


if __name__ == "__main__":
    main()
