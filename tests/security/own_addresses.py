"""The addresses that the service itself gives out say nothing of a patient: they end up in histories, logs and proxies.

Looked at in every text of an answer, whatever member it is in, in the headers that lead a browser somewhere, and in the
Referer of what the service asks others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from app.sandbox.patients import Story
from tests.contract.order_shapes import SIGN, anakinra
from tests.integration.hospital import TOKEN, USER, hook, opened, ordering

_ADDRESS: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//\S+|www\.\S+|\S+\?\S+=\S+")
_LEADING: Final = ("location", "content-location", "refresh", "link", "referer")


@dataclass(frozen=True, slots=True)
class Shown:
    """Addresses that the service gave out or asked for with a Referer, and those that say something of a patient."""

    addresses: int
    telling: tuple[str, ...]


async def shown_addresses(stories: Sequence[Story], *, folder: Path) -> Shown:
    """Of the cards for these patients, at a hook of the chart and at one of an order, and of what else is answered."""
    referers: list[str] = []

    def listened(request: httpx.Request) -> None:
        referers.extend(request.headers.get_list("referer"))

    count, telling = 0, []
    async with opened(folder, answers=listened) as hospital:
        for story in stories:
            secrets = _secrets(story)
            answered = [
                await hospital.post(hook(story.patient_id)),
                await hospital.post(ordering(story.patient_id, anakinra(story.patient_id), hook=SIGN)),
                *[
                    await hospital.client.get(path.format(story.patient_id))
                    for path in ("/cds-services/?patient={0}", "/cds-services/{0}/", "//{0}", "/{0}?patientId={0}")
                ],
            ]
            for answer in answered:
                headers = [value for name in _LEADING for value in answer.headers.get_list(name)]
                given = [*headers, *_addresses(answer)]
                count += len(given)
                telling += [one for one in given if any(secret in one.casefold() for secret in secrets)]
    return Shown(count, (*telling, *(f"Referer: {one}" for one in referers)))


def _secrets(story: Story) -> frozenset[str]:
    """What no address may hold: the patient's id and names, the user, the token."""
    names = [word for word in re.split(r"\W+", story.name) if len(word) > 3 and word.casefold() != "demo"]
    return frozenset(one.casefold() for one in (story.patient_id, *names, USER, USER.partition("/")[2], TOKEN))


def _addresses(answer: httpx.Response) -> list[str]:
    """Everything in an answer that is an address, whatever member it is in."""

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for name, inner in value.items() if name != "resource" for text in texts(inner)]
        if isinstance(value, list):
            return [text for inner in value for text in texts(inner)]
        return [value] if isinstance(value, str) else []

    if not answer.headers.get("content-type", "").startswith("application/json"):
        return _ADDRESS.findall(answer.text)
    return [found for text in texts(answer.json()) for found in _ADDRESS.findall(text)]
