"""pika's ordinary programs, and the rules that are easy to get wrong, against any AMQP 0-9-1 broker.

usage: pika_client.py HOST PORT USER PASSWORD
"""

import sys
import uuid

import pika
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAuthenticationError,
    UnroutableError,
)

HOST, PORT, USER, PASSWORD = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
PERSISTENT = pika.BasicProperties(delivery_mode=2, headers={"n": 1, "nested": {"list": [1, "a", True]}})


def connect(password=PASSWORD, **options):
    credentials = pika.PlainCredentials(USER, password)
    parameters = pika.ConnectionParameters(HOST, PORT, "/", credentials, **options)
    return pika.BlockingConnection(parameters)


def name(prefix):
    return f"{prefix}-{uuid.uuid4()}"


def refused(code, action):
    connection = connect()
    channel = connection.channel()
    try:
        action(channel)
    except (ChannelClosedByBroker, ConnectionClosedByBroker) as error:
        assert error.reply_code == code, f"{error.reply_code} {error.reply_text}, expected {code}"
    else:
        raise AssertionError(f"was not refused with {code}")
    finally:
        if connection.is_open:
            connection.close()


def test_publish_confirm_consume():
    connection = connect()
    channel = connection.channel()
    queue = name("orders")
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    for number in range(200):
        channel.basic_publish("", queue, b"%d" % number, PERSISTENT, mandatory=True)
    assert channel.queue_declare(queue, passive=True).method.message_count == 200
    channel.basic_qos(prefetch_count=20)
    numbers = []
    for method, properties, body in channel.consume(queue, inactivity_timeout=5):
        assert method is not None and properties.headers == PERSISTENT.headers
        numbers.append(int(body))
        channel.basic_ack(method.delivery_tag, multiple=False)
        if len(numbers) == 200:
            break
    assert numbers == list(range(200))
    channel.cancel()
    channel.queue_delete(queue)
    connection.close()


def test_unroutable_is_returned():
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("", name("absent"), b"x", PERSISTENT, mandatory=True)
    except UnroutableError as error:
        assert error.messages[0].method.reply_code == 312
    else:
        raise AssertionError("nothing was returned")
    connection.close()


def test_large_body():
    connection = connect(frame_max=8192)
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    assert queue.startswith("amq.gen-")
    body = bytes(range(256)) * 8192
    channel.confirm_delivery()
    channel.basic_publish("", queue, body, PERSISTENT)
    assert channel.basic_get(queue, auto_ack=True)[2] == body
    connection.close()


def test_requeue_keeps_the_order():
    connection = connect()
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.confirm_delivery()
    for number in range(5):
        channel.basic_publish("", queue, b"%d" % number)
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(4)]
    channel.basic_nack(tags[2], multiple=True, requeue=True)
    got = [channel.basic_get(queue, auto_ack=True) for _ in range(4)]
    assert [body for _, _, body in got] == [b"0", b"1", b"2", b"4"]
    assert [method.redelivered for method, _, _ in got] == [True, True, True, False]
    connection.close()


def test_topics():
    connection = connect()
    channel = connection.channel()
    exchange = name("events")
    channel.exchange_declare(exchange, "topic", auto_delete=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, exchange, "a.*.c.#")
    channel.confirm_delivery()
    for key in ("a.b.c", "a.b.c.d.e", "a.c", "b.b.c"):
        channel.basic_publish(exchange, key, key.encode())
    got = []
    while (found := channel.basic_get(queue, auto_ack=True))[0]:
        got.append(found[2])
    assert got == [b"a.b.c", b"a.b.c.d.e"], got
    connection.close()


def test_deleting_a_queue_cancels():
    connection = connect()
    channel = connection.channel()
    queue = name("short-lived")
    channel.queue_declare(queue)
    cancelled = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    channel.basic_consume(queue, lambda *_: None, consumer_tag="tag")
    connect().channel().queue_delete(queue)
    connection.process_data_events(time_limit=2)
    assert cancelled == ["tag"], cancelled
    connection.close()


def test_refusals():
    queue = name("durable")
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(queue, durable=True)
    exclusive = channel.queue_declare("", exclusive=True).method.queue
    refused(404, lambda channel: channel.queue_declare(name("absent"), passive=True))
    refused(406, lambda channel: channel.queue_declare(queue, durable=False))
    refused(405, lambda channel: channel.queue_declare(exclusive, passive=True))
    refused(403, lambda channel: channel.queue_declare("amq.mine"))
    refused(404, lambda channel: channel.queue_purge(name("absent")))
    refused(403, lambda channel: channel.exchange_delete(""))
    refused(403, lambda channel: channel.queue_bind(queue, "", "key"))
    refused(404, lambda channel: channel.queue_bind(queue, name("absent"), "key"))
    refused(406, lambda channel: channel.exchange_declare("amq.direct", "topic", durable=True))
    refused(403, lambda channel: channel.exchange_declare("amq.mine", "topic"))
    refused(503, lambda channel: channel.exchange_declare(name("e"), "no-such-type"))

    def bad_ack(channel):
        channel.basic_ack(99)
        channel.queue_declare(queue, passive=True)

    refused(406, bad_ack)
    # Deleting, unbinding and cancelling what is not there succeeds.
    channel.queue_delete(name("absent"))
    channel.exchange_delete(name("absent"))
    channel.queue_unbind(queue, "amq.direct", "key")
    channel.queue_delete(queue)
    connection.close()


def test_wrong_password():
    try:
        connect(password="wrong-" + PASSWORD)
    except ProbableAuthenticationError:
        return
    raise AssertionError("a wrong password was accepted")


def main():
    tests = {key: value for key, value in globals().items() if key.startswith("test_")}
    for test, body in tests.items():
        body()
        print(f"pika: {test} ok")


main()
