"""What all configs share: they are frozen, validated on creation, and refused with helpful errors.

Also the types of settings that several commands have: names, lists, the URL of a storage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import pydantic
from pydantic import Field

from fer_search.errors import ConfigError

STORAGES = ("sqlite", "postgresql", "mysql")
_STUDY_NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$"
_MODEL_NAME = r"^[^/:.%\"']+$"
_EXPECTED = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
    "string_too_short": "some text",
    _STUDY_NAME: "letters and digits, after the first also spaces, dots, dashes, underscores",
    _MODEL_NAME: "a name without / : . % or quotation marks",
}
"""What pydantic expected, in plain words, by the type of its error or by its pattern."""


class Frozen(pydantic.BaseModel):
    """An immutable model without unknown fields; a `ConfigError` names every fault."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            raise _refusal(type(self), error) from None


class Request(Frozen):
    """The parameters of a command."""

    def to_params(self) -> dict[str, str]:
        """Spell every setting as on the command line; `cls(**params)` reads it back."""
        return {name: spelled(value) for name, value in self.model_dump(by_alias=True).items()}

    def to_options(self) -> list[str]:
        """Spell every setting as an option of `python -m fer_search COMMAND`."""
        return [f"--{name}={value}" for name, value in self.to_params().items()]


def one_of(names: Iterable[str]) -> pydantic.BeforeValidator:
    """Accept only these names; the error lists them."""
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
        kind = fault.get("ctx", {}).get("pattern", fault["type"])
        said = _EXPECTED.get(kind) or re.sub(r"^(Value error, |Input should be )", "", fault["msg"])
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
        "\n".join(lines.values()), hint="run the command with --help to list its parameters"
    )


def _listed(value: Any) -> Any:
    """Read `a,b` as `("a", "b")`; spaces around the commas and repetitions do not matter."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return tuple(dict.fromkeys(value)) if isinstance(value, (list, tuple)) else value


def _shared_and_open(url: str) -> str:
    """Accept a URL that several processes can use and that may be written into a log."""
    parts = urlsplit(url)
    if parts.scheme.split("+")[0] not in STORAGES or "://" not in url:
        raise ValueError(f"not a database URL; supported: {', '.join(STORAGES)} (…://…)")
    if parts.scheme.startswith("sqlite"):
        path = url.split("://", 1)[1]
        if not path.startswith("/") or path in ("/", "/:memory:"):
            raise ValueError("workers are processes and need a file, e.g. sqlite:///optuna.db")
    if parts.password or {"password", "passwd"} & set(parse_qs(parts.query)):
        raise ValueError(
            "contains a password, which MLflow would record; use PGPASSWORD or a .pgpass file"
        )
    return url


Listed = pydantic.BeforeValidator(_listed)
"""`a,b` for `("a", "b")`."""
StorageUrl = Annotated[str, pydantic.AfterValidator(_shared_and_open)]
"""URL of a database that several processes can use, without a password in it."""
StudyName = Annotated[str, Field(pattern=_STUDY_NAME, max_length=200)]
ModelName = Annotated[str, Field(pattern=_MODEL_NAME, max_length=200)]
