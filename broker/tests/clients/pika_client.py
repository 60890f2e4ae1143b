"""pika's ordinary programs, and the rules that are easy to get wrong, against any AMQP 0-9-1 broker.

usage: pika_client.py HOST PORT USER PASSWORD
"""

import sys
import time
import uuid

import pika
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    NackError,
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


def drain(channel, queue):
    """Takes everything out of a queue; returns the bodies."""
    bodies = []
    while (found := channel.basic_get(queue, auto_ack=True))[0]:
        bodies.append(found[2])
    return bodies


def test_exchanges_bound_in_a_circle():
    connection = connect()
    channel = connection.channel()
    first, second, internal = name("first"), name("second"), name("internal")
    channel.exchange_declare(first, "topic", auto_delete=True)
    channel.exchange_declare(second, "fanout", auto_delete=True)
    channel.exchange_declare(internal, "direct", internal=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.exchange_bind(second, first, "orders.#")
    channel.exchange_bind(first, second)
    channel.exchange_bind(internal, first, "orders.new")
    channel.queue_bind(queue, second)
    channel.queue_bind(queue, internal, "orders.new")
    channel.confirm_delivery()
    for key in ("orders.new", "orders.old"):
        channel.basic_publish(first, key, key.encode(), mandatory=True)
    assert drain(channel, queue) == [b"orders.new", b"orders.old"]
    channel.exchange_unbind(second, first, "orders.#")
    channel.exchange_unbind(name("absent"), first, "key")
    channel.exchange_unbind(first, name("absent"), "key")
    channel.queue_unbind(queue, name("absent"), "key")
    channel.basic_publish(first, "orders.new", b"once more", mandatory=True)
    assert drain(channel, queue) == [b"once more"]
    refused(404, lambda channel: channel.exchange_bind(name("absent"), first))
    refused(404, lambda channel: channel.exchange_bind(first, name("absent")))
    refused(403, lambda channel: channel.exchange_bind("", first))
    refused(403, lambda channel: channel.exchange_bind(first, ""))
    refused(403, lambda channel: channel.basic_publish(internal, "k", b"x") or channel.queue_purge(queue))
    channel.exchange_delete(internal)
    # It is only bound to, which does not count as use.
    channel.exchange_unbind(first, second)
    channel.queue_unbind(queue, second)
    refused(404, lambda channel: channel.exchange_declare(second, passive=True))
    connection.close()


def test_alternate_exchanges():
    connection = connect()
    channel = connection.channel()
    first, second = name("first"), name("second")
    alternate = {"alternate-exchange": second}
    channel.exchange_declare(first, "direct", arguments=alternate)
    channel.exchange_declare(second, "fanout", arguments={"alternate-exchange": first})
    found = channel.queue_declare("", exclusive=True).method.queue
    rest = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(found, first, "key")
    channel.confirm_delivery()
    try:
        channel.basic_publish(first, "other", b"nobody", mandatory=True)
        raise AssertionError("nothing was returned")
    except UnroutableError:
        pass
    channel.queue_bind(rest, second)
    channel.basic_publish(first, "key", b"found", mandatory=True)
    channel.basic_publish(first, "other", b"rest", mandatory=True)
    assert (drain(channel, found), drain(channel, rest)) == ([b"found"], [b"rest"])
    channel.exchange_declare(first, "direct", arguments=alternate)
    refused(406, lambda channel: channel.exchange_declare(first, "direct"))
    refused(406, lambda channel: channel.exchange_declare(first, "direct", arguments={"alternate-exchange": first}))
    refused(406, lambda channel: channel.exchange_declare(name("e"), "direct", arguments={"alternate-exchange": 1}))
    channel.exchange_delete(first)
    channel.exchange_delete(second)
    connection.close()


def test_headers_exchanges():
    connection = connect()
    channel = connection.channel()
    exchange = name("headers")
    channel.exchange_declare(exchange, "headers", auto_delete=True)
    bindings = {
        "all": {"x-match": "all", "colour": "red", "size": 5},
        "any": {"x-match": "any", "colour": "red", "size": 5},
        "default": {"colour": "red"},
        "there": {"size": None},
        "every": {},
        "none": {"x-match": "any"},
        "x": {"x-match": "any-with-x", "x-extra": True},
        "without-x": {"x-match": "all", "x-extra": True},
    }
    queues = {key: channel.queue_declare("", exclusive=True).method.queue for key in bindings}
    for key, arguments in bindings.items():
        channel.queue_bind(queues[key], exchange, "ignored", arguments)
    channel.confirm_delivery()

    def taken(headers):
        channel.basic_publish(exchange, "k", b"x", pika.BasicProperties(headers=headers))
        return {key for key, queue in queues.items() if drain(channel, queue)}

    always = {"every", "without-x"}
    assert taken({"colour": "red", "size": 5, "more": 1}) == {"all", "any", "default", "there"} | always
    assert taken({"size": 5 << 40}) == {"there"} | always
    assert taken({"size": "5", "colour": "blue"}) == {"there"} | always
    assert taken({"size": 5}) == {"any", "there"} | always
    assert taken(None) == always
    assert taken({"x-extra": True}) == {"x"} | always
    for key, arguments in bindings.items():
        channel.queue_unbind(queues[key], exchange, "ignored", dict(reversed(arguments.items())))
    refused(404, lambda channel: channel.exchange_declare(exchange, passive=True))
    queue = queues["all"]
    refused_by = connect()
    locked = refused_by.channel()
    mine = locked.queue_declare("", exclusive=True).method.queue
    try:
        locked.queue_bind(mine, "amq.headers", "", {"x-match": "some"})
        raise AssertionError("x-match: some was accepted")
    except ChannelClosedByBroker as error:
        assert error.reply_code == 406, error
    refused_by.close()
    channel.queue_bind(queue, "amq.match", "", {"a": 1})
    connection.close()


def test_cc_and_bcc():
    connection = connect()
    channel = connection.channel()
    queues = [channel.queue_declare("", exclusive=True).method.queue for _ in range(3)]
    headers = {"CC": [queues[1], queues[0], 5], "BCC": [queues[2]], "n": 1}
    channel.confirm_delivery()
    channel.basic_publish("", queues[0], b"x", pika.BasicProperties(headers=headers), mandatory=True)
    for queue in queues:
        method, properties, _ = channel.basic_get(queue, auto_ack=True)
        assert method.routing_key == queues[0] and method.message_count == 0
        assert properties.headers == {"CC": [queues[1], queues[0], 5], "n": 1}, properties.headers

    def no_array(channel):
        channel.basic_publish("", "q", b"x", pika.BasicProperties(headers={"CC": "q"}))
        channel.queue_declare("", exclusive=True)

    refused(406, no_array)
    connection.close()


def eventually(what, condition):
    """Waits until the condition holds; returns its value."""
    deadline = time.monotonic() + 20
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return value


def next_of(channel, queue):
    """Waits for a message of a queue, and takes it without acknowledging."""
    return eventually(f"a message in {queue}", lambda: (found := channel.basic_get(queue))[0] and found)


def expiring(milliseconds):
    return pika.BasicProperties(delivery_mode=2, expiration=milliseconds)


def test_messages_expire():
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"short", expiring("1"))
    channel.basic_publish("", queue, b"long", expiring("60000"))
    channel.basic_publish("", queue, b"behind it", expiring("1"))
    depth = lambda name: channel.queue_declare(name, passive=True).method.message_count
    eventually("what is in front expires", lambda: depth(queue) == 2)
    # The time of what is behind has to be over as well.
    connection.sleep(0.1)
    assert drain(channel, queue) == [b"long"], "what is behind expires once it is in front"
    limited = channel.queue_declare("", exclusive=True, arguments={"x-message-ttl": 100}).method.queue
    channel.basic_publish("", limited, b"x", expiring("60000"))
    eventually("the shorter time counts", lambda: depth(limited) == 0)
    refused(406, lambda channel: channel.basic_publish("", "q", b"x", expiring("soon")) or channel.queue_purge("q"))
    refused(406, lambda channel: channel.queue_declare(name("q"), arguments={"x-message-ttl": -1}))
    connection.close()


def test_queues_expire():
    connection = connect()
    channel = connection.channel()
    queue = name("expires")
    channel.queue_declare(queue, arguments={"x-expires": 300})
    channel.basic_consume(queue, lambda *_: None, consumer_tag="tag")
    connection.sleep(1)
    channel.queue_declare(queue, passive=True)
    channel.basic_cancel("tag")
    # To ask is to use it.
    connection.sleep(2)
    refused(404, lambda channel: channel.queue_declare(queue, passive=True))
    refused(406, lambda channel: channel.queue_declare(name("q"), arguments={"x-expires": 0}))
    connection.close()


def test_full_queues():
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()

    def declare(arguments):
        return channel.queue_declare("", exclusive=True, arguments=arguments).method.queue

    dropping, small = declare({"x-max-length": 3}), declare({"x-max-length-bytes": 10})
    for number in range(5):
        channel.basic_publish("", dropping, b"%d" % number)
        channel.basic_publish("", small, b"%d..." % number)
    assert drain(channel, dropping) == [b"2", b"3", b"4"]
    assert drain(channel, small) == [b"3...", b"4..."]
    dead = declare({})
    letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    for overflow, died in (("reject-publish", []), ("reject-publish-dlx", [b"2"])):
        refusing = declare({"x-max-length": 2, "x-overflow": overflow} | letters)
        channel.basic_publish("", refusing, b"0")
        channel.basic_publish("", refusing, b"1")
        try:
            channel.basic_publish("", refusing, b"2")
            raise AssertionError("a message was confirmed for which there was no room")
        except NackError:
            pass
        assert drain(channel, refusing) == [b"0", b"1"]
        for body in died:
            assert next_of(channel, dead)[2] == body
    assert drain(channel, dead) == []
    refused(406, lambda channel: channel.queue_declare(name("q"), arguments={"x-overflow": "spill"}))
    connection.close()


def test_dead_letters():
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    exchange, work, pause = name("dead"), name("work"), name("pause")
    channel.exchange_declare(exchange, "direct", auto_delete=True)
    # What is rejected pauses, and comes back when it expires.
    retry = {"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": pause}
    channel.queue_declare(work, exclusive=True, arguments=retry)
    back = {"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": work, "x-message-ttl": 1}
    channel.queue_declare(pause, exclusive=True, arguments=back)
    channel.queue_bind(work, exchange, work)
    channel.queue_bind(pause, exchange, pause)
    channel.basic_publish("", work, b"x", pika.BasicProperties(expiration="60000", headers={"n": 1}))
    for times in range(3):
        method, properties, body = next_of(channel, work)
        assert (body, properties.headers["n"]) == (b"x", 1)
        if times > 0:
            first, second = properties.headers["x-death"]
            assert (first["queue"], first["reason"], first["count"]) == (pause, "expired", times), first
            assert (second["queue"], second["reason"], second["count"]) == (work, "rejected", times), second
            assert (first["exchange"], first["routing-keys"]) == (exchange, [pause]), first
            assert (second["exchange"], second["routing-keys"]) == ("", [work]), second
            assert second["original-expiration"] == "60000" and "time" in second, second
            assert properties.expiration is None
            story = [properties.headers[f"x-first-death-{part}"] for part in ("queue", "reason", "exchange")]
            assert story == [work, "rejected", ""], story
        channel.basic_reject(method.delivery_tag, requeue=False)
    channel.queue_delete(pause)
    # A circle that nobody rejects ends; without a routing key of its own a letter keeps that of the message.
    circle = name("circle")
    arguments = {"x-dead-letter-exchange": "", "x-message-ttl": 1}
    channel.queue_declare(circle, exclusive=True, arguments=arguments)
    channel.basic_publish("", circle, b"x")
    eventually("it ends", lambda: channel.queue_declare(circle, passive=True).method.message_count == 0)
    refused(406, lambda channel: channel.queue_declare(name("q"), arguments={"x-dead-letter-routing-key": "k"}))
    connection.close()


def test_messages_that_come_back_too_often():
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    queue, dead = name("quorum"), channel.queue_declare("", exclusive=True).method.queue
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": ""}
    channel.queue_declare(queue, durable=True, arguments=arguments | {"x-dead-letter-routing-key": dead})
    channel.basic_publish("", queue, b"x", PERSISTENT)
    for times in range(3):
        method, properties, _ = next_of(channel, queue)
        assert properties.headers.get("x-delivery-count", 0) == times, properties.headers
        assert method.redelivered == (times > 0)
        channel.basic_nack(method.delivery_tag, requeue=True)
    _, properties, body = next_of(channel, dead)
    death = properties.headers["x-death"][0]
    assert (body, death["reason"], death["count"]) == (b"x", "delivery_limit", 1), death
    assert channel.basic_get(queue)[0] is None
    channel.queue_delete(queue)
    refused(406, lambda channel: channel.queue_declare(name("q"), arguments={"x-delivery-limit": 2}))
    connection.close()


def test_a_single_active_consumer():
    connection = connect()
    channel = connection.channel()
    arguments = {"x-single-active-consumer": True}
    queue = channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
    got = []
    for tag in ("first", "second"):
        channel.basic_consume(queue, lambda _, method, __, body: got.append((method, body)), consumer_tag=tag)

    def take(count):
        """Publishes as many messages, and returns who got them."""
        before = len(got)
        for number in range(count):
            channel.basic_publish("", queue, b"%d" % number)
        deadline = time.monotonic() + 20
        while len(got) < before + count and time.monotonic() < deadline:
            connection.process_data_events(time_limit=0.1)
        return [(method.consumer_tag, body) for method, body in got[before:]]

    assert take(3) == [("first", b"0"), ("first", b"1"), ("first", b"2")]
    channel.basic_cancel("first")
    channel.basic_ack(got[-1][0].delivery_tag, multiple=True)
    assert take(2) == [("second", b"0"), ("second", b"1")]
    connection.close()


def test_exchanges_ignore_arguments_that_mean_nothing():
    connection = connect()
    channel = connection.channel()
    exchange = name("exchange")
    channel.exchange_declare(exchange, "direct", arguments={"x-anything": 1, "note": "text"})
    channel.exchange_declare(exchange, "direct")
    channel.exchange_delete(exchange)
    connection.close()


def test_transactions():
    connection = connect()
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    for body in (b"a", b"b", b"c", b"d"):
        channel.basic_publish("", queue, body)
    channel.tx_select()
    channel.tx_select()
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(4)]
    channel.basic_publish("", queue, b"e")
    channel.basic_ack(tags[1], multiple=True)
    channel.basic_nack(tags[2], requeue=True)
    assert channel.basic_get(queue)[0] is None, "nothing took effect yet"
    channel.tx_rollback()
    channel.basic_ack(tags[0])
    channel.basic_nack(tags[3], requeue=True)
    channel.basic_reject(tags[1], requeue=False)
    channel.basic_publish("", queue, b"f")
    channel.tx_commit()
    assert drain(channel, queue) == [b"d", b"f"], "what was committed, and nothing else"
    channel.basic_ack(tags[2])
    channel.tx_commit()

    returned = []
    channel.add_on_return_callback(lambda *args: returned.append(args[3]))
    channel.basic_publish("", name("absent"), b"unroutable", mandatory=True)
    channel.queue_declare(queue, passive=True)
    assert returned == []
    channel.tx_commit()
    connection.process_data_events(time_limit=0.1)
    assert returned == [b"unroutable"]

    refused(406, lambda channel: channel.tx_commit())
    refused(406, lambda channel: channel.tx_rollback())
    refused(406, lambda channel: channel.tx_select() and channel.confirm_delivery())
    refused(406, lambda channel: channel.confirm_delivery() or channel.tx_select())
    connection.close()


def test_a_cancelled_tag_is_used_again():
    connection = connect()
    channel = connection.channel()
    for _ in range(2):
        queue = channel.queue_declare(name("short-lived")).method.queue
        channel.basic_consume(queue, lambda *_: None, consumer_tag="tag")
        channel.queue_delete(queue)
        connection.process_data_events(time_limit=0.1)
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
