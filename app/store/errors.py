"""What can go wrong with the store. No message holds parameters of a statement, which may be patient data.

StoreError
├── BadDatabase     the address is wrong, or the database cannot be opened
│   └── BadSpool        the same of the spool beside it
├── BadSchema       a schema this version does not know: names the revisions and the remedy
└── NotRecorded     a decision could not be committed: it must not be answered as if it were
    ├── SpoolFull       there is no room for it, by the bound or on the disk
    └── SpoolFailed     the disk does not do what it is asked
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of all errors of this package. `place`: which database (`address.shown`), where that is known."""

    place: str = ""

    def __str__(self) -> str:
        said = super().__str__()
        return f"{self.place}: {said}" if self.place else said


class BadDatabase(StoreError):
    """The address is wrong, or the database cannot be opened."""


class BadSpool(BadDatabase):
    """The spool cannot be opened: names the file and the remedy."""


class BadSchema(StoreError):
    """A schema this version does not know."""


class NotRecorded(StoreError):
    """A decision could not be committed."""


class SpoolFull(NotRecorded):
    """The spool has no room: names the directory, the bound and the remedy."""


class SpoolFailed(NotRecorded):
    """The spool cannot be written or read now."""
