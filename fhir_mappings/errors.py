"""Errors of the mappings.

MappingError
├── Unreadable      the bytes are not the JSON of a FHIR resource or Bundle
├── BadDate         not a FHIR date, dateTime or instant
└── BadCodebook     a data file of this package (or a site overlay) is wrong: names the file, the key and the remedy

No message holds text from patient data.
"""

from __future__ import annotations


class MappingError(ValueError):
    """Base of all errors of this package."""


class Unreadable(MappingError):
    """The bytes are not the JSON of a FHIR resource or Bundle."""


class BadDate(MappingError):
    """Not a FHIR date, dateTime or instant."""


class BadCodebook(MappingError):
    """A data file is wrong: names the file, the key and the remedy."""
