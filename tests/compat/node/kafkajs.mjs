// KafkaJS. Its codecs, but for gzip, come from other packages, as its documentation shows.

import { createRequire } from 'node:module';
import { CODECS, registerCodecs } from '../../node/codecs.mjs';

const require = createRequire(new URL('../../node/', import.meta.url));

export async function kafkajs() {
  const { Kafka, logLevel, Partitioners } = require('kafkajs');
  await registerCodecs();
  return {
    kafka: (at) => new Kafka({ clientId: 'kafkajs', brokers: [at], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50 } }),
    settings: (options) => options,
    producerOptions: (_codec, idempotent) => ({
      createPartitioner: Partitioners.DefaultPartitioner,
      idempotent,
      maxInFlightRequests: 1,
    }),
    batch: (topic, messages, codec) => ({ topic, messages, acks: -1, compression: CODECS[codec] }),
    readerOptions: (committed) => ({
      groupId: `read-${process.pid}-${Math.random()}`,
      readUncommitted: !committed,
      maxWaitTimeInMs: 100,
    }),
    memberOptions: (groupId) => ({ groupId, heartbeatInterval: 200, sessionTimeout: 30_000, maxWaitTimeInMs: 100 }),
    runOptions: { autoCommit: false },
    // An event tells of each assignment; subscribing from the beginning is its auto.offset.reset.
    follow(consumer, state) {
      state.partitions = 0;
      consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
        state.partitions = Object.values(payload.memberAssignment).flat().length;
      });
      const subscribe = consumer.subscribe;
      consumer.subscribe = (subscription) => subscribe({ ...subscription, fromBeginning: true });
    },
    sendOffsets: (transaction, consumerGroupId, topics) => transaction.sendOffsets({ consumerGroupId, topics }),
    assigned: (_consumer, state) => state.partitions,
  };
}
