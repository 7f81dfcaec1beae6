"""`rescue-cds doctor`: what a FHIR server has of what the rules need, before anything is configured.

It asks through the gateway, the gather plan and the mapping of the service, so that what it says is what the service
will do. What is counted and how it is told is pure: `examination` alone talks to the server.
"""
