"""mypy and pyright accept the good lines of `typed/` and refuse exactly the bad ones."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

TYPED = Path(__file__).parent / "typed"
SNIPPETS = sorted(TYPED.glob("*.py"))


def _bad_lines() -> set[tuple[str, int]]:
    return {
        (path.name, number)
        for path in SNIPPETS
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.endswith("# bad")
    }


def _run(tmp_path: Path, *command: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    return ran.stdout


def test_mypy_refuses_exactly_the_bad_lines(tmp_path: Path) -> None:
    out = _run(tmp_path, "mypy", "--strict", "--python-version=3.11", *map(str, SNIPPETS))
    found = {
        (Path(match[1]).name, int(match[2]))
        for match in re.finditer(r"^(.+\.py):(\d+): error:", out, re.MULTILINE)
    }
    assert found == _bad_lines(), out


def test_pyright_refuses_exactly_the_bad_lines(tmp_path: Path) -> None:
    # pyright includes only what is below its configuration.
    shutil.copytree(TYPED, tmp_path / "typed")
    config = {"include": ["typed"], "typeCheckingMode": "strict", "pythonVersion": "3.11"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    out = _run(
        tmp_path, "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)
    )
    found = {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1)
        for each in json.loads(out)["generalDiagnostics"]
        if each["severity"] == "error"
    }
    assert found == _bad_lines(), out
