// @confluentinc/kafka-javascript: librdkafka behind KafkaJS's API.

import { createRequire } from 'node:module';

const require = createRequire(new URL('../../node/', import.meta.url));

export async function confluent() {
  const { Kafka, logLevel } = require('@confluentinc/kafka-javascript').KafkaJS;
  const client = '@confluentinc/kafka-javascript';
  const kafka = (at) => new Kafka({ kafkaJS: { clientId: client, brokers: [at], logLevel: logLevel.NOTHING } });
  return {
    kafka,
    // Producers of transactions are told in KafkaJS's words, the others in librdkafka's.
    settings: (options) => ('transactionalId' in options ? { kafkaJS: options } : options),
    producerOptions: (codec, idempotent) => ({ 'compression.type': codec, 'enable.idempotence': idempotent, 'linger.ms': 5 }),
    batch: (topic, messages) => ({ topic, messages }),
    readerOptions: (committed) => ({
      'group.id': `read-${process.pid}-${Math.random()}`,
      'isolation.level': committed ? 'read_committed' : 'read_uncommitted',
      'auto.offset.reset': 'earliest',
      'enable.auto.commit': false,
    }),
    memberOptions: (group, protocol) => ({
      'group.id': group,
      'group.protocol': protocol,
      'auto.offset.reset': 'earliest',
      'enable.auto.commit': false,
      ...(protocol === 'classic' ? { 'session.timeout.ms': 30_000, 'heartbeat.interval.ms': 300 } : {}),
    }),
    runOptions: {},
    follow() {},
    // Offsets are sent in the name of a consumer, which says what its group is.
    async sendOffsets(transaction, group, topics, at) {
      const consumer = kafka(at).consumer({ 'group.id': group });
      await consumer.connect();
      await transaction.sendOffsets({ consumer, topics });
      await consumer.disconnect();
    },
    assigned: (consumer) => consumer.assignment().length,
  };
}
