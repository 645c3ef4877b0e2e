"""The API described for machines and people: OpenAPI 3.1 and the page that shows it. No call depends on it."""
