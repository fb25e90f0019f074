"""Every public name and parameter of the official SDK exists here too, except for listed ones.

What is compared: names, parameter names, their order and kinds, and that what may be left out there may
be left out here. ``arg`` may be left out here where the handler takes none.
"""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, ParamSpec, TypeVar

import pytest
import restate

import perdure

MODULES = (
    "asyncio",
    "client",
    "client_types",
    "context",
    "context_managers",
    "endpoint",
    "entry_codec",
    "exceptions",
    "extensions",
    "handler",
    "logging",
    "object",
    "retry_policy",
    "serde",
    "service",
    "types",
    "workflow",
)

_CLOUD = "tunnel to Restate Cloud, a hosted service that Perdure does not need"
_DECORATION = "inside of decoration: how a function becomes a Handler"
_OPTIONAL_IMPORT = "inside of serdes: how the official package finds its optional dependencies"
_OWN_CLIENT = "inside of the HTTP client; Perdure's has one method `submit` under all typed calls"
_SKIPPED_MODULE = {
    "_preview": "private, by its leading underscore; explicit recovery is not public",
    "aws_lambda": "running on AWS Lambda",
    "connection": _CLOUD,
    "discovery": "inside of serving: the manifest; here `perdure.describe`",
    "ext": "integrations of third-party frameworks",
    "harness": "provided by `perdure.harness`, tested there; its classes start Docker containers",
    "server": "inside of serving",
    "server_context": "inside of serving; what extensions use of it is in `perdure.server_context`",
    "server_types": "inside of serving: ASGI and Lambda types",
    "vm": "inside of serving: the binding of the native state machine",
}
EXCLUDED = {
    "ConnectError": _CLOUD,
    "connect": _CLOUD,
    "with_connection": _CLOUD,
    "client.resolve_ingress": _CLOUD,
    "client.Client.__init__": "takes the ingress URL, or as there an httpx client, as `ingress`",
    "client.Client.do_call": _OWN_CLIENT,
    "client.Client.do_raw_call": _OWN_CLIENT,
    "client.Client.post": _OWN_CLIENT,
    "client.ScopedClient": _OWN_CLIENT,
    "handler.Handler.__init__(explicit_recovery)": _SKIPPED_MODULE["_preview"],
    "handler.check_state_preload_options": _DECORATION,
    "handler.invoke_handler": "inside of serving; here `perdure.handler.decode_input` and its like",
    "handler.make_handler": _DECORATION,
    "handler.update_handler_io_with_input_type_hints": _DECORATION,
    "handler.update_handler_io_with_return_type_hints": _DECORATION,
    "handler.update_handler_io_with_type_hints": _DECORATION,
    "serde.DaciteFromDict": _OPTIONAL_IMPORT,
    "serde.DaciteToDict": _OPTIONAL_IMPORT,
    "serde.Msgspec": _OPTIONAL_IMPORT,
    "serde.MsgspecJsonAPI": _OPTIONAL_IMPORT,
    "serde.try_import_from_dacite": _OPTIONAL_IMPORT,
    "serde.try_import_msgspec_api": _OPTIONAL_IMPORT,
    "serde.try_import_pydantic_base_model": _OPTIONAL_IMPORT,
}
LATE = {"create_test_harness", "test_harness"}  # need a running engine; checked by name only
_DUNDERS = ("__init__", "__await__", "__call__")


def _is_ours_to_have(name: str) -> bool:
    return not name.startswith("_") or name in _DUNDERS


def _public_members(cls: type) -> Iterator[str]:
    for base in cls.__mro__:
        if base.__module__.startswith("restate"):
            for name, value in vars(base).items():
                if _is_ours_to_have(name) and (
                    inspect.isfunction(value) or isinstance(value, property | classmethod)
                ):
                    yield name


def _signature(value: Any) -> inspect.Signature | None:
    if inspect.isfunction(value):
        return inspect.signature(value)
    return None


def _differences(path: str, theirs: Any, ours: Any) -> Iterator[str]:
    """What ``ours`` lacks; each line begins with the dotted name that an exclusion would have."""
    their_signature, our_signature = _signature(theirs), _signature(ours)
    if their_signature is None:
        return
    if our_signature is None:
        # A class without an __init__ of its own, such as an error: takes anything.
        if callable(ours):
            return
        yield f"{path}: is not a function here"
        return
    our_parameters = our_signature.parameters
    order = [name for name in our_parameters if name in their_signature.parameters]
    if order != [name for name in their_signature.parameters if name in our_parameters]:
        yield f"{path}: parameters in another order: {order}"
    for name, wanted in their_signature.parameters.items():
        found = our_parameters.get(name)
        if wanted.kind in (wanted.VAR_POSITIONAL, wanted.VAR_KEYWORD):
            # Nobody passes these by name.
            if all(each.kind is not wanted.kind for each in our_parameters.values()):
                yield f"{path}({name}): does not take {wanted.kind.description} parameters"
        elif found is None:
            yield f"{path}({name}): no such parameter"
        elif found.kind is not wanted.kind:
            yield f"{path}({name}): is {found.kind.description}, not {wanted.kind.description}"
        elif wanted.default is not wanted.empty and found.default is found.empty:
            yield f"{path}({name}): cannot be left out here"
        elif wanted.default is wanted.empty and found.default is not found.empty and name != "arg":
            yield f"{path}({name}): can be left out here only"


def _class_differences(path: str, theirs: type, ours: Any) -> Iterator[str]:
    if not isinstance(ours, type):
        yield f"{path}: is not a class here"
        return
    for name in dict.fromkeys(_public_members(theirs)):
        member = f"{path}.{name}"
        if not hasattr(ours, name):
            yield f"{member}: missing"
        elif name != "__init__" or "__init__" in vars(theirs):
            yield from _differences(member, getattr(theirs, name), getattr(ours, name))


def _module_differences(name: str) -> Iterator[str]:
    theirs = importlib.import_module(f"restate.{name}")
    ours = importlib.import_module(f"perdure.{name}")
    names = getattr(theirs, "__all__", None) or [
        each
        for each, value in vars(theirs).items()
        if not each.startswith("_") and getattr(value, "__module__", "") == theirs.__name__
    ]
    for each in names:
        path, value = f"{name}.{each}", getattr(theirs, each)
        if isinstance(value, TypeVar | ParamSpec):
            continue
        if not hasattr(ours, each):
            yield f"{path}: missing"
        elif inspect.isclass(value):
            yield from _class_differences(path, value, getattr(ours, each))
        else:
            yield from _differences(
                path, inspect.unwrap(value), inspect.unwrap(getattr(ours, each))
            )


def _is_excluded(line: str) -> str | None:
    path = line.partition(": ")[0]
    for name in EXCLUDED:
        if path == name or path.startswith((f"{name}.", f"{name}(")):
            return name
    return None


@pytest.mark.parametrize("module", MODULES)
def test_module_has_every_public_name_and_parameter_of_the_official_one(module: str) -> None:
    lacking = [line for line in _module_differences(module) if _is_excluded(line) is None]
    assert lacking == []


def test_top_level_has_every_public_name_of_the_official_one() -> None:
    missing = [name for name in restate.__all__ if name not in EXCLUDED]
    missing = [name for name in missing if name not in perdure.__all__]
    assert missing == []


def test_top_level_names_can_be_imported() -> None:
    late = {*LATE, "open"}
    assert [
        name for name in perdure.__all__ if name not in late and not hasattr(perdure, name)
    ] == []


def test_every_module_of_the_official_package_is_compared_or_skipped_for_a_reason() -> None:
    found = {each.name for each in pkgutil.iter_modules(restate.__path__)}
    assert found - set(MODULES) - set(_SKIPPED_MODULE) - {"__main__", "_internal"} == set()


def test_no_exclusion_is_out_of_date() -> None:
    used = {_is_excluded(line) for module in MODULES for line in _module_differences(module)}
    used |= {name for name in restate.__all__ if name not in perdure.__all__}
    assert set(EXCLUDED) - used == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        perdure.nope  # noqa: B018


def test_importing_perdure_loads_no_engine_and_no_http_library() -> None:
    program = (
        "import sys, perdure; "
        "print([m for m in ('thespian', 'plyvel', 'aiohttp', 'httpx', 'pydantic') if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"
