from pathlib import Path

import pytest

from tests.journal.wire.generate import WIRE, generate


def test_the_generated_files_are_those_of_the_schema(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    for name, text in generate(tmp_path).items():
        assert _comparable(text) == _comparable((WIRE / name).read_text()), "run generate.py"


def _comparable(text: str) -> str:
    """Releases of the compiler differ in whether a flag of a constructor may be None."""
    return text.replace("_Optional[bool]", "bool")
