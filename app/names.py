"""The public ids of the three services: in discovery, in addresses, in client records and in every decision."""

from typing import Final

PATIENT_VIEW: Final = "anakinra-ruxolitinib-patient-view"
ORDER_SELECT: Final = "anakinra-ruxolitinib-order-select"
ORDER_SIGN: Final = "anakinra-ruxolitinib-order-sign"

SERVICES: Final = (PATIENT_VIEW, ORDER_SELECT, ORDER_SIGN)
