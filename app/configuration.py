"""Reading a TOML file strictly: a wrong value stops the start with file, line, key and remedy.

A service that guesses what its operator meant guesses about patients. No message holds a value: it may be a secret.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from app.gateway import address

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]

_M = TypeVar("_M", bound=BaseModel)
_LARGEST: Final = 1024 * 1024
_STEP: Final = re.compile(r"\[(\d+)\]|\.?([^.\[\]]+)")


class SettingsError(ValueError):
    """A value that stops the start. `key` is its dotted name, as in `tenants[0].zone`; '' where there is none."""

    def __init__(self, remedy: str, *, key: str = "") -> None:
        super().__init__(f"{key}: {remedy}" if key else remedy)
        self.remedy = remedy
        self.key = key


class Model(BaseModel):
    """A table of a file: no unknown key, no conversion, no value in a message."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class File:
    """One TOML file: its values, and where a key of it stands."""

    def __init__(self, path: Path) -> None:
        """Raises SettingsError when it cannot be read or is no TOML."""
        self.path = path
        try:
            if path.stat().st_size > _LARGEST:
                raise SettingsError(f"{path}: larger than 1 MiB: not a configuration file")
            self.text = path.read_text(encoding="utf-8")
            self.values = _parsed(self.text)
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{path}: not UTF-8 text: save the file as UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            # Its messages say what and where ("at line 3, column 7"), never a value.
            raise SettingsError(f"{path}: not TOML: {error}") from None

    def validated(self, model: type[_M]) -> _M:
        """The values as that model. Raises SettingsError for the first that is wrong."""
        try:
            return model.model_validate(self.values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            raise self.located(
                SettingsError(_REMEDIES.get(first["type"], first["msg"]), key=_dotted(first["loc"]))
            ) from None

    def located(self, error: SettingsError) -> SettingsError:
        """The same error with this file and the line of its key; one without a key, of another file, as it is."""
        if not error.key:
            return error
        return SettingsError(f"{self.path}:{self.line(error.key)}: {error.key}: {error.remedy}")

    def line(self, key: str) -> int:
        """The line on which the statement of a key begins; of its table where the key is missing; else 1.

        The shortest beginning of the file that has the key ends with its statement, which begins where the longest
        readable beginning before it ends: no second reader of TOML, and right for values of several lines.
        """
        lines = self.text.split("\n")
        steps = _steps(key)
        while steps and not _has(self.values, steps):
            steps = steps[:-1]
        if not steps:
            return 1

        def there(count: int) -> bool:
            return _has(_readable(lines, count)[1], steps)

        last = bisect_left(range(len(lines) + 1), True, key=there)
        first = _readable(lines, last - 1)[0]
        while not lines[first].strip() or lines[first].lstrip().startswith("#"):
            first += 1
        return first + 1


def unique(values: Sequence[str], *, key: str, remedy: str) -> None:
    """Raises SettingsError for the first value that has stood there before. `key` has {} for its place."""
    seen: set[str] = set()
    for place, value in enumerate(values):
        if value in seen:
            raise SettingsError(f"the same value twice: {remedy}", key=key.format(place))
        seen.add(value)


def base(url: str, *, key: str, http: bool) -> str:
    """A FHIR base as it is compared and used. `http`: whether it may be unprotected. Raises SettingsError."""
    no_wildcard(url, key=key)
    try:
        parsed = address.parse(url)
    except ValueError as error:
        raise SettingsError(str(error), key=key) from None
    if parsed.host.endswith("."):
        raise SettingsError("write the host name without the last dot", key=key)
    if parsed.scheme == "http" and not http:
        raise SettingsError(
            'http would send tokens and patient data unprotected: use https; profile = "dev" in [service] is for '
            "trying things out on one machine",
            key=key,
        )
    return str(parsed)


def endpoint(url: str, *, key: str, http: bool) -> str:
    """An address to post to, or to name: unlike one to append to, it keeps its last slash. Raises SettingsError."""
    if "?" in url:
        raise SettingsError("the address must have no query", key=key)
    return base(url, key=key, http=http) + ("/" if url.endswith("/") else "")


def origin(url: str, *, key: str, http: bool) -> str:
    """A browser's origin. Raises SettingsError."""
    no_wildcard(url, key=key)
    try:
        parsed = address.parse(url)
    except ValueError as error:
        raise SettingsError(str(error), key=key) from None
    if parsed.path:
        raise SettingsError("an origin is scheme, host and port, without a path", key=key)
    if parsed.scheme == "http" and not http:
        raise SettingsError("a page that can be changed on its way must not read cards: use https", key=key)
    return parsed.origin


def no_wildcard(value: str, *, key: str) -> None:
    """Raises SettingsError for what looks like a pattern: every entry is compared whole, so it would match nothing
    or, read by somebody as a pattern, everything."""
    if "*" in value:
        raise SettingsError("no wildcards: write every value out, one entry each", key=key)


_REMEDIES: Final = {
    "extra_forbidden": "no such key: remove it, or see docs/config.example.toml for how it is spelled",
    "missing": "is missing: add it",
}


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _steps(key: str) -> tuple[str | int, ...]:
    return tuple(int(match[1]) if match[1] else match[2] for match in _STEP.finditer(key))


def _has(values: Any, steps: Sequence[str | int]) -> bool:
    for step in steps:
        if isinstance(step, int):
            if not isinstance(values, list) or step >= len(values):
                return False
            values = values[step]
        elif isinstance(values, Mapping) and step in values:
            values = values[step]
        else:
            return False
    return True


def _readable(lines: Sequence[str], count: int) -> tuple[int, dict[str, Any]]:
    """The longest beginning of at most so many lines that does not end within a statement, and its values."""
    while True:
        try:
            return count, _parsed("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            count -= 1


def _parsed(text: str) -> dict[str, Any]:
    return tomllib.loads(text, parse_float=Decimal)
