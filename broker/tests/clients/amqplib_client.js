// amqplib's ordinary programs against any AMQP 0-9-1 broker.
// usage: node amqplib_client.js HOST PORT USER PASSWORD
'use strict';

const assert = require('node:assert');
const { randomUUID } = require('node:crypto');
const amqplib = require('amqplib');

const [hostname, port, username, password] = process.argv.slice(2);
const options = { protocol: 'amqp', hostname, port: Number(port), username, password, vhost: '/' };

async function publishConfirmConsume(connection) {
  const channel = await connection.createConfirmChannel();
  const queue = `orders-${randomUUID()}`;
  await channel.assertQueue(queue, { durable: true });
  for (let number = 0; number < 200; number += 1) {
    channel.sendToQueue(queue, Buffer.from(String(number)), { persistent: true, headers: { number }, messageId: `m${number}` });
  }
  await channel.waitForConfirms();
  assert.strictEqual((await channel.checkQueue(queue)).messageCount, 200);
  await channel.prefetch(10);
  const numbers = [];
  await new Promise((resolve, reject) => {
    channel.consume(queue, (message) => {
      try {
        const number = Number(message.content.toString());
        assert.strictEqual(message.properties.headers.number, number);
        assert.strictEqual(message.properties.messageId, `m${number}`);
        numbers.push(number);
        channel.ack(message);
        if (numbers.length === 200) resolve();
      } catch (error) {
        reject(error);
      }
    }).catch(reject);
  });
  assert.deepStrictEqual(numbers, Array.from({ length: 200 }, (_, number) => number));
  await channel.deleteQueue(queue);
  await channel.close();
}

async function returnsAndFanout(connection) {
  const channel = await connection.createConfirmChannel();
  const returned = new Promise((resolve) => channel.once('return', resolve));
  channel.publish('', `absent-${randomUUID()}`, Buffer.from('x'), { mandatory: true });
  assert.strictEqual((await returned).fields.replyCode, 312);
  await channel.waitForConfirms();
  const exchange = `fan-${randomUUID()}`;
  await channel.assertExchange(exchange, 'fanout', { durable: false, autoDelete: true });
  const queues = [];
  for (let count = 0; count < 2; count += 1) {
    const { queue } = await channel.assertQueue('', { exclusive: true });
    await channel.bindQueue(queue, exchange, '');
    queues.push(queue);
  }
  channel.publish(exchange, 'any', Buffer.from('to both'));
  await channel.waitForConfirms();
  for (const queue of queues) {
    assert.strictEqual((await channel.get(queue, { noAck: true })).content.toString(), 'to both');
    assert.strictEqual(await channel.get(queue), false);
  }
  await channel.close();
}

async function refusals(connection) {
  const refused = async (code, action) => {
    const channel = await connection.createChannel();
    channel.on('error', () => {});
    await assert.rejects(action(channel), (error) => error.code === code);
  };
  await refused(404, (channel) => channel.checkQueue(`absent-${randomUUID()}`));
  await refused(403, (channel) => channel.assertQueue('amq.mine'));
  await refused(404, (channel) => channel.bindQueue('absent', 'absent', ''));
  await refused(404, (channel) => channel.checkExchange('absent'));
}

async function main() {
  const connection = await amqplib.connect(options);
  for (const test of [publishConfirmConsume, returnsAndFanout, refusals]) {
    await test(connection);
    console.log(`amqplib: ${test.name} ok`);
  }
  await connection.close();
  await assert.rejects(amqplib.connect({ ...options, password: 'wrong' }));
  console.log('amqplib: wrong password ok');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
