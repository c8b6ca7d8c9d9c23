"""The log in a Kafka topic: records (frames), what of them counts (fold), a broker's client (topic), the log (log).

Only `topic.py` imports the client library, which is the extra `kafka`.
"""
