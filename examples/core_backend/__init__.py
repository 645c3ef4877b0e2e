"""A service of a company that sends by Kafka, and hears what became of it by topic and by webhook."""
