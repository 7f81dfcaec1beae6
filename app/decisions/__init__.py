"""`rescue-cds decisions`: what was decided, shown and evaluated again (docs/decisions.md)."""
