"""`make chaos`: every scenario for as long as one likes, and a table of what came of it.

    PYTHONPATH=tests:tests/failure python -m chaos [SECONDS]

Exits with 1 if a single request was answered wrong (but for what is documented for entries with closures), a handler
ran twice without being told, or an answer says that a handler ran which did not.
"""

import sys

from chaos.scenarios import SCENARIOS


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    print(f"{len(SCENARIOS)} scenarios of {seconds:g} s\n", flush=True)
    broken = 0
    for scenario in SCENARIOS:
        outcome = scenario.run(seconds)
        account = outcome.account
        good = not (scenario.unexcused(outcome) or account.doubled or account.unrun)
        broken += not good
        print(f"{'ok  ' if good else 'BAD '} {scenario.name}, {len(outcome.blows.struck)} times", flush=True)
        print(f"     {account.row()}", flush=True)
        if not good:
            print(account.examples(), "\n", outcome.log, file=sys.stderr, flush=True)
    print(f"\n{len(SCENARIOS) - broken} passed, {broken} failed", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
