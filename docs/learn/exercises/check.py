#!/usr/bin/env python
"""Say whether your answer to a lesson's exercise is right.

    python docs/learn/exercises/check.py kv_caching              what you wrote in starter.py
    python docs/learn/exercises/check.py kv_caching mine.py      what you wrote elsewhere
    python docs/learn/exercises/check.py kv_caching --answer     one way to do it

Every check is a function of the lesson's checks.py: its first line says what must be true, and an
AssertionError says what was found instead. The status is 0 if all pass, else 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
LESSONS = ("inference_loop", "where_the_time_goes", "kv_caching", "flash_attention")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lesson", choices=LESSONS)
    parser.add_argument("file", nargs="?", type=Path, help="default: the lesson's starter.py")
    parser.add_argument("--answer", action="store_true", help="check one way to do it")
    args = parser.parse_args(argv)
    file = args.file or HERE / args.lesson / ("answer.py" if args.answer else "starter.py")
    return 0 if passes(args.lesson, file) else 1


def passes(lesson: str, file: Path) -> bool:
    """Run all checks of a lesson against a file, and print a line for each."""
    sys.path.insert(0, str(HERE / lesson))  # what a lesson's files import from each other
    try:
        checks = load(HERE / lesson / "checks.py").CHECKS
        try:
            answer = load(file)
        except Exception as error:
            print(f"{lesson}: {file.name} cannot be read: {told(error)}")
            return False
        num_passed = sum(passed(check, answer) for check in checks)
    finally:
        sys.path.remove(str(HERE / lesson))
    verdict = "passed" if num_passed == len(checks) else "not yet"
    print(f"{lesson}: {verdict}, {num_passed} of {len(checks)}")
    return num_passed == len(checks)


def passed(check, answer: ModuleType) -> bool:
    what = check.__doc__.splitlines()[0].rstrip(".")
    try:
        check(answer)
    except Exception as error:
        print(f"  not yet  {what}\n           {told(error)}")
        return False
    print(f"  ok       {what}")
    return True


def told(error: Exception) -> str:
    """An error in one line; of a failed check only what was found."""
    text = str(error).strip().splitlines()
    line = text[0] if text else "no reason given"
    return line if isinstance(error, AssertionError) else f"{type(error).__name__}: {line}"


def load(file: Path) -> ModuleType:
    """A module from a file, anew each time."""
    spec = importlib.util.spec_from_file_location(f"exercise_{file.parent.name}_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
