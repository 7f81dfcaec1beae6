"""What can go wrong with the store. No message holds parameters of a statement, which may be patient data.

StoreError
├── BadDatabase     the address is wrong, or the database cannot be opened
├── BadSchema       a schema this version does not know: names the revisions and the remedy
└── NotRecorded     a decision could not be committed: it must not be answered as if it were
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of all errors of this package."""


class BadDatabase(StoreError):
    """The address is wrong, or the database cannot be opened."""


class BadSchema(StoreError):
    """A schema this version does not know."""


class NotRecorded(StoreError):
    """A decision could not be committed."""
