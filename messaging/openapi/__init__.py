"""The API described for machines and people: OpenAPI 3.1 and its page, AsyncAPI 3.0. No call depends on it."""
