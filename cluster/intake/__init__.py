"""Events that Usher fetches itself: topics of Kafka, read by the edges as one consumer group a source."""
