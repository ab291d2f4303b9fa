// KafkaJS as a program: `client.mjs produce BOOTSTRAP TOPIC CODEC ACKS` reads messages, one JSON object a line, and
// answers with where each went; `client.mjs consume BOOTSTRAP TOPIC COUNT GROUP` prints records. Bytes are base64.
// harness/clients.py is the other end.

import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const { Kafka, CompressionTypes, CompressionCodecs, logLevel, Partitioners } = require('kafkajs');
const snappy = require('snappyjs');
const lz4 = require('lz4js');
const xxhash = require('lz4js/xxh32.js');
const zstd = require('@bokuweb/zstd-wasm');

const XERIAL_MAGIC = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]);

// The Java client frames snappy in blocks with a header of its own; librdkafka sends one bare block.
function unsnap(buffer) {
  if (!buffer.subarray(0, 8).equals(XERIAL_MAGIC)) return Buffer.from(snappy.uncompress(buffer));
  const blocks = [];
  for (let at = 16; at < buffer.length; ) {
    const size = buffer.readInt32BE(at);
    blocks.push(Buffer.from(snappy.uncompress(buffer.subarray(at + 4, at + 4 + size))));
    at += 4 + size;
  }
  return Buffer.concat(blocks);
}

// lz4js marks its frames as ones whose blocks depend on each other, which Kafka's consumers refuse. A batch is one block,
// so the mark is set right, and the descriptor's checksum with it.
function lz4Frame(buffer) {
  const frame = Buffer.from(lz4.compress(buffer));
  frame[4] |= 0x20;
  frame[6] = xxhash.hash(0, frame, 4, 2) >> 8;
  return frame;
}

CompressionCodecs[CompressionTypes.Snappy] = () => ({
  compress: async (encoder) => Buffer.from(snappy.compress(encoder.buffer)),
  decompress: async (buffer) => unsnap(buffer),
});
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => lz4Frame(encoder.buffer),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
});
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(zstd.decompress(buffer)),
});

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
};

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
await zstd.init();
await (command === 'produce' ? produce : consume)(kafka, topic, ...rest);
