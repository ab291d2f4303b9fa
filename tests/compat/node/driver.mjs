// KafkaJS and @confluentinc/kafka-javascript, whose API is KafkaJS's: `driver.mjs kafkajs|confluent BOOTSTRAP` takes one
// call a line and answers each with one line. compat/client.py is the other end.

import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { kafkajs } from './kafkajs.mjs';
import { confluent } from './confluent.mjs';

const [which, bootstrap] = process.argv.slice(2);
const library = await { kafkajs, confluent }[which]();
const members = new Map();
const producers = new Map();
let admin;

const bytes = (text) => (text === null ? null : Buffer.from(text, 'base64'));
const text = (data) => (data === null || data === undefined ? null : Buffer.from(data).toString('base64'));

// One for each key, connected.
async function producer(key, options, at = bootstrap) {
  if (!producers.has(key)) {
    const made = library.kafka(at).producer(library.settings(options));
    await made.connect();
    producers.set(key, made);
  }
  return producers.get(key);
}

async function theAdmin() {
  if (!admin) {
    admin = library.kafka(bootstrap).admin();
    await admin.connect();
  }
  return admin;
}

const record = (message) => ({
  key: text(message.key),
  value: text(message.value),
  timestamp: Number(message.timestamp),
  headers: Object.entries(message.headers ?? {}).map(([name, value]) => [name, text(value)]),
});

const calls = {
  async produce({ topic, messages, codec, idempotent, bootstrap: at }) {
    const options = library.producerOptions(codec, idempotent);
    const sender = await producer(`${at} ${codec} ${idempotent}`, options, at);
    await sender.send(library.batch(topic, messages.map((m) => ({
      key: bytes(m.key),
      value: bytes(m.value),
      partition: m.partition,
      timestamp: String(m.timestamp),
      headers: Object.fromEntries(m.headers.map(([name, value]) => [name, bytes(value)])),
    })), codec));
  },

  // Both libraries seek a running consumer only, by offset; the offset of a time comes from the admin.
  async read({ topic, count, committed, since }) {
    const start = since < 0 ? '0' : (await (await theAdmin()).fetchTopicOffsetsByTimestamp(topic, since))[0].offset;
    const consumer = library.kafka(bootstrap).consumer(library.settings(library.readerOptions(committed)));
    await consumer.connect();
    await consumer.subscribe({ topics: [topic] });
    const read = [];
    await consumer.run({
      eachMessage: async ({ partition, message }) => {
        if (partition === 0 && read.length < count && Number(message.offset) >= Number(start)) read.push(record(message));
      },
    });
    consumer.seek({ topic, partition: 0, offset: start });
    for (let left = 1000; read.length < count && left > 0; left -= 1) await sleep(50);
    await consumer.disconnect();
    return read;
  },

  async join({ member, group, topic, protocol }) {
    const consumer = library.kafka(bootstrap).consumer(library.settings(library.memberOptions(group, protocol)));
    const state = { consumer, values: [], next: new Map(), topic, assigned: () => library.assigned(consumer, state) };
    library.follow(consumer, state);
    members.set(member, state);
    await consumer.connect();
    await consumer.subscribe({ topics: [topic] });
    await consumer.run({
      eachMessage: async ({ partition, message }) => {
        state.values.push(text(message.value));
        state.next.set(partition, Number(message.offset) + 1);
      },
      ...library.runOptions,
    });
  },

  async poll({ member }) {
    const state = members.get(member);
    for (let left = 4; state.values.length === 0 && left > 0; left -= 1) await sleep(50);
    return { values: state.values.splice(0), assigned: state.assigned() };
  },

  async commit({ member }) {
    const { consumer, next, topic } = members.get(member);
    const offsets = [...next].map(([partition, offset]) => ({ topic, partition, offset: String(offset) }));
    next.clear();
    if (offsets.length > 0) await consumer.commitOffsets(offsets);
  },

  async leave({ member }) {
    await members.get(member).consumer.disconnect();
    members.delete(member);
  },

  async createTopic({ topic, partitions, config }) {
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }));
    await (await theAdmin()).createTopics({ topics: [{ topic, numPartitions: partitions, replicationFactor: 1, configEntries }] });
  },

  async topicConfig({ topic, name }) {
    const described = await (await theAdmin()).describeConfigs({ includeSynonyms: false, resources: [{ type: 2, name: topic }] });
    return described.resources[0].configEntries.find((entry) => entry.configName === name).configValue;
  },

  async growTopic({ topic, partitions }) {
    await (await theAdmin()).createPartitions({ topicPartitions: [{ topic, count: partitions }] });
  },

  async topics() {
    const names = await (await theAdmin()).listTopics();
    const described = await (await theAdmin()).fetchTopicMetadata({ topics: names });
    // KafkaJS wraps the list.
    return Object.fromEntries((described.topics ?? described).map((topic) => [topic.name, topic.partitions.length]));
  },

  async deleteTopic({ topic }) {
    await (await theAdmin()).deleteTopics({ topics: [topic] });
  },

  async transact({ producer: name, id, topic, values, outcome, consumed }) {
    const sender = await producer(name, { transactionalId: id, maxInFlightRequests: 1, idempotent: true });
    const transaction = await sender.transaction();
    const messages = values.map((value) => ({ value: bytes(value), partition: 0 }));
    try {
      await transaction.send({ topic, messages });
    } catch (error) {
      // librdkafka says why only to who ends the transaction.
      await transaction.abort();
      throw error;
    }
    if (consumed) {
      const topics = [{ topic: consumed.topic, partitions: [{ partition: 0, offset: String(consumed.offset) }] }];
      await library.sendOffsets(transaction, consumed.group, topics, bootstrap);
    }
    await (outcome === 'commit' ? transaction.commit() : transaction.abort());
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { call, ...request } = JSON.parse(line);
  let answer;
  try {
    answer = { result: (await calls[call](request)) ?? null };
  } catch (error) {
    answer = { error: String(error?.stack ?? error) };
  }
  console.log(JSON.stringify(answer));
}
process.exit(0);
