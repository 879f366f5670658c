"""Promotes one training for every line that it reads, and says what came of it: half of a concurrent pair."""

import sys

from core.errors import Brain2VideoError
from studies.registry.promote import promote_run
from studies.study import load_study


def say(words: str) -> None:
    print(words, flush=True)  # noqa: T201 - the test reads it


def main() -> None:
    study, run = load_study(sys.argv[1]), sys.argv[2]
    say("ready")
    for _ in sys.stdin:
        try:
            promote_run(study, run, force=True)
            say("promoted")
        except Brain2VideoError as error:
            say(f"refused: {error}")


if __name__ == "__main__":
    main()
