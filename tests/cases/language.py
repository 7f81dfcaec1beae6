"""The case language stands in app/cases/language.py, where `rescue-cds protocols check` has it, too."""

from app.cases.language import *  # noqa: F403
