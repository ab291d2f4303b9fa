// KafkaJS as a program: `client.mjs produce BOOTSTRAP TOPIC CODEC ACKS` reads messages, one JSON object a line, and
// answers with where each went; `client.mjs consume BOOTSTRAP TOPIC COUNT GROUP` prints records. Bytes are base64.
// harness/clients.py is the other end.

import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { CODECS, registerCodecs } from './codecs.mjs';

const require = createRequire(import.meta.url);
const { Kafka, logLevel, Partitioners } = require('kafkajs');

const bytes = (text) => (text === null ? null : Buffer.from(text, 'base64'));
const text = (buffer) => (buffer === null || buffer === undefined ? null : Buffer.from(buffer).toString('base64'));

async function produce(kafka, topic, codec, acks) {
  const messages = [];
  for await (const line of createInterface({ input: process.stdin })) {
    const message = JSON.parse(line);
    messages.push({
      key: bytes(message.key),
      value: bytes(message.value),
      partition: message.partition,
      timestamp: String(message.timestamp),
      headers: Object.fromEntries(message.headers.map(([name, value]) => [name, bytes(value)])),
    });
  }
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
  await producer.connect();
  const answers = await producer.send({ topic, messages, acks: Number(acks), compression: CODECS[codec] });
  for (const answer of answers) {
    console.log(JSON.stringify({ partition: answer.partition, offset: Number(answer.baseOffset) }));
  }
  await producer.disconnect();
}

async function consume(kafka, topic, count, group) {
  const consumer = kafka.consumer({ groupId: group });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  let left = Number(count);
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, (event) => reject(event.payload.error));
    consumer.run({
      eachMessage: async ({ partition, message }) => {
        const headers = Object.entries(message.headers ?? {}).flatMap(([name, value]) =>
          (Array.isArray(value) ? value : [value]).map((one) => [name, text(one)]),
        );
        console.log(
          JSON.stringify({
            partition,
            offset: Number(message.offset),
            timestamp: Number(message.timestamp),
            key: text(message.key),
            value: text(message.value),
            headers,
          }),
        );
        left -= 1;
        if (left === 0) resolve();
      },
    });
  });
  await consumer.disconnect();
}

const [command, bootstrap, topic, ...rest] = process.argv.slice(2);
const kafka = new Kafka({ clientId: 'highwater-tests', brokers: [bootstrap], logLevel: logLevel.ERROR });
await registerCodecs();
await (command === 'produce' ? produce : consume)(kafka, topic, ...rest);
