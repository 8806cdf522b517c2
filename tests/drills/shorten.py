#!/usr/bin/env python3
"""Divides every duration of rules, or of an Alertmanager's configuration, by a factor.

    tests/drills/shorten.py FACTOR < deploy/prometheus/alerts.yml

Durations are `for`, ranges in brackets, `offset`, the forecast of predict_linear (`30 * 60`), and Alertmanager's
intervals. Text in annotations stays unchanged, except for queries.
"""

import re
import sys

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = r"(\d+)([smhd])"


def shortened(text, factor):
    def divided(found):
        return f"{found[1]}{int(found[2]) * SECONDS[found[3]] * 1000 // factor}ms{found[4]}"

    for before, after in (
        (r"(?m)^(\s*for: )", r"$"),
        (r"(\[)", r"(?=\])"),
        (r"(\boffset )", r"\b"),
        (r"(?m)^(\s*(?:group_wait|group_interval|repeat_interval): )", r"$"),
    ):
        text = re.sub(f"{before}{DURATION}({after})", divided, text)
    return text.replace("30 * 60", f"30 * 60 / {factor}")


if __name__ == "__main__":
    print(shortened(sys.stdin.read(), int(sys.argv[1])), end="")
