"""`shared/orders.toml`: what is read, and what is refused with the key and the remedy."""

from __future__ import annotations

import pytest

from app import knowledge
from app.clinical.orders import RULES
from app.protocols import loader, orders
from app.protocols.fields import KnowledgeError

FILES = loader.load().files


def built(text: str) -> None:
    loader.build({**FILES, orders.FILE: text})


def test_every_rule_has_one_check_and_every_check_a_reason_in_words() -> None:
    checks = loader.load().knowledge.order_checks
    assert sorted(check.rule for check in checks) == sorted(RULES)
    assert all(check.id.startswith("ORD-") and check.title and check.advice for check in checks)
    assert all(check.origin.source and check.origin.review == "unsigned" for check in checks)


def test_only_what_is_written_speaks_while_drugs_are_picked() -> None:
    """A form that is being filled in is not told what it lacks."""
    quiet = {check.id for check in loader.load().knowledge.order_checks if "order-select" not in check.speaks_at}
    assert quiet == {
        *("ORD-NOT-IDENTIFIED", "ORD-NO-END", "ORD-NO-TAPER", "ORD-BY-TEXT"),
        *("ORD-DOSE-BELOW", "ORD-DOSE-UNREADABLE", "ORD-ONE-OF-PAIR"),
    }


def test_the_version_of_the_knowledge_names_them() -> None:
    assert loader.load().knowledge.version.endswith(f"{orders.ID} 0.1.0")
    assert knowledge.load().library.knowledge.order_version == "0.1.0"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('rule = "dose-above"', 'rule = "dose-abov"', "no rule 'dose-abov'"),
        ('severity = "absolute"', 'severity = "critical"', "severity 'critical' is none of"),
        ('card = "protocol"', 'card = "dose"', "card 'dose' is none of"),
        ('speaks_at = ["order-sign"]', 'speaks_at = ["order-signed"]', "`speaks_at` 'order-signed'"),
        ('id = "ORD-DOSE-BELOW"', 'id = "ORD-DOSE-ABOVE"', "ORD-DOSE-ABOVE"),
        ('id = "ORD-DOSE-BELOW"', 'id = "ORD-DOSE-BELOW"\ndoses = 3', "doses"),
        ('version = "0.1.0"', "", "`version`"),
        ('version = "0.1.0"', 'version = "0.1.0"\nlimit = 3', "limit"),
        ('review = "unsigned"', 'review = "yes"', "review"),
    ],
)
def test_what_does_not_fit_is_refused(old: str, new: str, said: str) -> None:
    text = FILES[orders.FILE]
    assert old in text
    with pytest.raises(KnowledgeError, match=r"shared/orders\.toml") as error:
        built(text.replace(old, new, 1))
    assert said in str(error.value)
    assert said in "\n".join(loader.complaints({**FILES, orders.FILE: text.replace(old, new, 1)}))
