"""The calls of verifications, described for the OpenAPI document. No call depends on it."""
