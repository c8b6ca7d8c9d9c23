"""Kafka brokers in this process: librdkafka's mock cluster, which speaks the real protocol on loopback sockets.

Other processes reach it at `bootstrap`. What no client can do to it (stop it, delay it, have it fail, drop records as a
retention does) is asked of the library itself. It keeps the newest 5 MB of a partition, and has no admin requests.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import confluent_kafka

PRODUCE, FETCH, OFFSET_COMMIT = 0, 1, 8
#: Error codes of the protocol.
NOT_LEADER, TIMED_OUT, ILLEGAL_GENERATION, STORAGE_ERROR = 6, 7, 22, 56

_pointer, _text, _int, _long = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int64
_FUNCTIONS = {
    "rd_kafka_conf_new": (_pointer, []),
    "rd_kafka_conf_set": (_int, [_pointer, _text, _text, _text, ctypes.c_size_t]),
    "rd_kafka_new": (_pointer, [_int, _pointer, _text, ctypes.c_size_t]),
    "rd_kafka_destroy": (None, [_pointer]),
    "rd_kafka_mock_cluster_new": (_pointer, [_pointer, _int]),
    "rd_kafka_mock_cluster_destroy": (None, [_pointer]),
    "rd_kafka_mock_cluster_bootstraps": (_text, [_pointer]),
    "rd_kafka_mock_topic_create": (_int, [_pointer, _text, _int, _int]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [_pointer, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_down": (_int, [_pointer, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_up": (_int, [_pointer, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_rtt": (_int, [_pointer, ctypes.c_int32, _int]),
    "rd_kafka_mock_push_request_errors_array": (None, [_pointer, ctypes.c_int16, ctypes.c_size_t, _pointer]),
    "rd_kafka_mock_clear_request_errors": (None, [_pointer, ctypes.c_int16]),
    "rd_kafka_mock_partition_delete_records": (_int, [_pointer, _text, ctypes.c_int32, _long]),
}


def _library() -> ctypes.CDLL:
    folder = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    [path] = folder.glob("librdkafka*")
    library = ctypes.CDLL(os.fspath(path))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Brokers:
    """One broker. Make it with `brokers()`."""

    def __init__(self) -> None:
        self._library = _library()
        said = ctypes.create_string_buffer(512)
        settings = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(settings, b"log_level", b"0", said, 512)
        self._client = self._library.rd_kafka_new(0, settings, said, 512)
        assert self._client, said.value
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, 1)
        # As brokers do, it would wait 3 s for more members of a new group.
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 100)
        self.bootstrap = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def make_topic(self, name: str, partitions: int = 1) -> None:
        """Make a topic; topics that are asked for are made by themselves, with four partitions."""
        assert self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1) == 0

    def stop(self) -> None:
        """End every connection, and take none."""
        self._library.rd_kafka_mock_broker_set_down(self._cluster, -1)

    def go_on(self) -> None:
        self._library.rd_kafka_mock_broker_set_up(self._cluster, -1)

    def delay(self, ms: int) -> None:
        """Let every answer take this much longer."""
        self._library.rd_kafka_mock_broker_set_rtt(self._cluster, -1, ms)

    def fail(self, request: int, *codes: int) -> None:
        """Let the next requests of a kind fail, one for each code."""
        errors = (ctypes.c_int * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, request, len(codes), ctypes.cast(errors, _pointer)
        )

    def mend(self, request: int) -> None:
        """Let requests of a kind succeed again."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, request)

    def delete_before(self, topic: str, offset: int) -> None:
        """Drop the records before an offset."""
        code = self._library.rd_kafka_mock_partition_delete_records(self._cluster, topic.encode(), 0, offset)
        assert code == 0, code

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)


@contextmanager
def brokers() -> Iterator[Brokers]:
    running = Brokers()
    try:
        yield running
    finally:
        running.close()
