"""What all configs share: frozen, validated at birth, and refused in words that help."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pydantic

from fer_search.errors import ConfigError


class Frozen(pydantic.BaseModel):
    """Immutable, without unknown fields; a refusal is a `ConfigError` that names every fault."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            raise _refusal(type(self), error) from None


def one_of(names: Iterable[str]) -> pydantic.BeforeValidator:
    """Let these names pass; a refusal lists them."""
    known = tuple(names)

    def check(value: Any) -> Any:
        if value not in known:
            raise ValueError(f"unknown name; known: {', '.join(known)}")
        return value

    return pydantic.BeforeValidator(check)


def spelled(value: Any) -> str:
    """Spell a value as on the command line: lists with commas, `true`, 3 for 3.0."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return ",".join(str(part) for part in value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _refusal(cls: type[Frozen], error: pydantic.ValidationError) -> ConfigError:
    """Turn pydantic's report into one line per fault: name, value, what was expected."""
    known = [field.alias or name for name, field in cls.model_fields.items()]
    lines: dict[str, str] = {}
    for fault in error.errors():
        name = str(fault["loc"][0]) if fault["loc"] else ""
        if fault["type"] == "extra_forbidden":
            lines[name] = f"{name} is not a parameter; known: {', '.join(known)}"
            continue
        said = re.sub(r"^(Value error, |Input should be )", "", fault["msg"])
        if not name:  # about several settings at once
            lines[said] = said
            continue
        if "literal_error" in fault["type"] and name in lines:  # the second half of a union
            lines[name] += f", or {said}"
        else:
            lines.setdefault(name, f"{name}={spelled(fault['input'])}: expected {said}"
                             if "Value error" not in fault["msg"]
                             else f"{name}={spelled(fault['input'])}: {said}")  # fmt: skip
    return ConfigError(
        "\n".join(lines.values()), hint="python -m fer_search COMMAND --help lists the parameters"
    )
