"""A job that says what it is, and does one of `WHATS`: `python -m tests.forked OUT [WHAT]`; a copy, where there is a fork server."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from boldscribe.machinery.forkserver import VARIABLE, hand_over


def wait() -> None:
    """Until SIGTERM, which ends it with 7."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    Path(f"{sys.argv[1]}.waits").write_text(str(os.getpid()))
    time.sleep(600)


def fail() -> None:
    """By a code."""
    sys.exit(3)


def be_killed() -> None:
    """By a signal."""
    os.kill(os.getpid(), signal.SIGABRT)


WHATS: dict[str, Callable[[], None]] = {"wait": wait, "fail": fail, "be_killed": be_killed}


def main() -> None:
    """Write `OUT`: process, parent, folder, arguments, modules at hand, and how SIGTERM is taken; then do WHAT."""
    found = {
        "process": os.getpid(),
        "parent": os.getppid(),
        "folder": str(Path.cwd()),
        "arguments": sys.argv[1:],
        "loaded": "wave" in sys.modules,
        "served": VARIABLE in os.environ,
        "ignores": signal.getsignal(signal.SIGTERM) is signal.SIG_IGN,
        "main": sys.modules["__main__"].__spec__.name,  # type: ignore[union-attr]
    }
    import wave  # noqa: F401  # which nothing else does

    Path(sys.argv[1]).write_text(json.dumps(found))
    print("out"), print("err", file=sys.stderr)
    if len(sys.argv) > 2:
        WHATS[sys.argv[2]]()


if __name__ == "__main__":
    hand_over("tests.forked", sys.argv[1:])
    main()
