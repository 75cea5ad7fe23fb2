"""Measures how fast one process hands jobs to Celery: `apply_async` calls per second on one AMQP broker.

    python publish.py amqp://user:password@host:port/vhost [--seconds 5] [--threads 1 64]

A job carries a 1 KiB string. Messages are persistent and go to a quorum queue of this benchmark's own,
which is deleted at the end. Each number of threads is measured twice: with publisher confirms, which
is what a durable submit has to be compared with, and without them, Celery's default, in which a call
returns when the bytes are in the socket. Afterwards the queue has to hold exactly what was published.

Prints one JSON object.
"""

import argparse
import json
import platform
import statistics
import sys
import threading
import time
from importlib.metadata import version

from celery import Celery
from kombu import Queue, pools

QUEUE = "stoker.bench.celery"
PAYLOAD = "x" * 1024
WARM_UP_CALLS = 200
COUNT_SECONDS = 60


def application(uri, confirm, threads):
    app = Celery("bench", broker=uri)
    app.conf.update(
        broker_connection_retry_on_startup=False,
        broker_pool_limit=threads,
        broker_transport_options={"confirm_publish": confirm},
        task_default_delivery_mode="persistent",
        task_ignore_result=True,
        task_queues=[Queue(QUEUE, routing_key=QUEUE, queue_arguments={"x-queue-type": "quorum"})],
        task_default_queue=QUEUE,
        task_default_exchange_type="direct",
        task_default_routing_key=QUEUE,
        worker_detect_quorum_queues=False,
    )
    return app


def call_until(task, deadline, latencies, failures):
    try:
        while (start := time.perf_counter()) < deadline:
            task.apply_async(args=(PAYLOAD,))
            latencies.append(time.perf_counter() - start)
    except Exception as error:  # a thread's end must not pass unseen
        failures.append(error)


def queue_length(app, expected):
    """Waits until the broker has counted what it was sent, and returns its count."""
    deadline = time.monotonic() + COUNT_SECONDS
    with app.connection_for_write() as connection:
        while True:
            length = connection.default_channel.queue_declare(QUEUE, passive=True).message_count
            if length >= expected or time.monotonic() >= deadline:
                return length
            time.sleep(0.1)


def empty_queue(app):
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        channel.queue_delete(QUEUE)
        app.amqp.queues[QUEUE].bind(channel).declare()


def measure(uri, confirm, threads, seconds):
    app = application(uri, confirm, threads)

    @app.task(name="bench.noop")
    def noop(_):
        raise AssertionError("nothing consumes this queue")

    empty_queue(app)
    for _ in range(WARM_UP_CALLS):
        noop.apply_async(args=(PAYLOAD,))
    latencies, failures = [[] for _ in range(threads)], []
    start = time.perf_counter()
    callers = [
        threading.Thread(target=call_until, args=(noop, start + seconds, own, failures))
        for own in latencies
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    elapsed = time.perf_counter() - start
    if failures:
        raise failures[0]
    # kombu shares connections between applications; the next one must not get ours.
    pools.reset()

    calls = sorted(latency for own in latencies for latency in own)
    expected = WARM_UP_CALLS + len(calls)
    held = queue_length(app, expected)
    if held != expected:
        sys.exit(f"published {expected} messages, but the queue holds {held}: the rate means nothing")
    cuts = statistics.quantiles(calls, n=100)
    return {
        "confirm_publish": confirm,
        "threads": threads,
        "calls": len(calls),
        "calls_per_second": round(len(calls) / elapsed, 1),
        "p50_ms": round(cuts[49] * 1000, 3),
        "p99_ms": round(cuts[98] * 1000, 3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("uri", help="of an AMQP broker, such as amqp://guest:guest@127.0.0.1:5672/%%2f")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 64])
    options = parser.parse_args()

    results = [
        measure(options.uri, confirm, threads, options.seconds)
        for threads in options.threads
        for confirm in (True, False)
    ]
    app = application(options.uri, confirm=True, threads=1)
    with app.connection_for_write() as connection:
        connection.default_channel.queue_delete(QUEUE)
        broker = connection.connection.server_properties
    print(
        json.dumps(
            {
                "benchmark": "celery apply_async",
                "payload_bytes": len(PAYLOAD),
                "queue_type": "quorum",
                "celery": version("celery"),
                "amqp": version("amqp"),
                "python": platform.python_version(),
                "broker": f"{broker['product']} {broker['version']}",
                "results": results,
            },
            indent=2,
        )
    )


main()
