"""Makes journal/wire/messages_pb2.py and .pyi from messages.proto: python tests/journal/wire/generate.py

The virtual path gives the file a name of its own in protobuf's registry, which the whole process shares.
The compiler of protobuf 6.31 makes the very same code as today's, so that is what the code asks for: an
application that still holds an older protobuf than ours can use us.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

WIRE = Path(__file__).parents[3] / "journal" / "wire"
GENERATED = ("messages_pb2.py", "messages_pb2.pyi")
_PACKAGE = "perdure/journal/wire"
_OLDEST_RUNTIME = (6, 31, 0)


def generate(folder: Path) -> dict[str, str]:
    """The generated files by name; ``folder`` is for the compiler. Needs grpcio-tools."""
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc", f"-I{_PACKAGE}={WIRE}"),
        *(f"--python_out={folder}", f"--pyi_out={folder}", f"{_PACKAGE}/messages.proto"),
    ]
    subprocess.run(command, check=True)
    made = {name: (folder / _PACKAGE / name).read_text() for name in GENERATED}
    made["messages_pb2.py"] = _for_oldest_runtime(made["messages_pb2.py"])
    return made


def _for_oldest_runtime(code: str) -> str:
    version = ".".join(map(str, _OLDEST_RUNTIME))
    code = re.sub(r"(?<=^# Protobuf Python Version: ).*$", version, code, flags=re.MULTILINE)
    arguments = "".join(f"    {number},\n" for number in _OLDEST_RUNTIME)
    return re.sub(r"(?<=Domain\.PUBLIC,\n)(    \d+,\n){3}", arguments, code)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name, text in generate(Path(folder)).items():
            (WIRE / name).write_text(text)
