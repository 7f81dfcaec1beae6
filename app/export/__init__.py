"""The record as FHIR R4 resources: for an audit repository, an archive, or who asks years later (docs/export.md)."""
