// Kafka's own client with transactions, as a program: `write BOOTSTRAP TOPIC ID TRANSACTION…` runs transactions of one
// producer, each `commit=VALUE,VALUE…` or `abort=VALUE,VALUE…`, `leave=VALUE…` being one that it dies in; `transform
// BOOTSTRAP INPUT OUTPUT ID GROUP COUNT` reads so many records, writes each in upper case, and commits output and
// offsets together; `count BOOTSTRAP TOPIC ID COUNT` commits the numbers up to COUNT, each into two partitions by a
// transaction of its own, whatever becomes of the broker, and prints each. test_transactions.py is the other end.

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Transactions {
    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("write")) {
            write(arguments[1], arguments[2], arguments[3], List.of(arguments).subList(4, arguments.length));
        } else if (arguments[0].equals("count")) {
            count(arguments[1], arguments[2], arguments[3], Integer.parseInt(arguments[4]));
        } else {
            transform(arguments[1], arguments[2], arguments[3], arguments[4], arguments[5],
                Integer.parseInt(arguments[6]));
        }
    }

    private static KafkaProducer<String, String> producer(String bootstrap, String id) {
        Map<String, Object> settings =
            Map.of("bootstrap.servers", bootstrap, "transactional.id", id, "transaction.timeout.ms", 60_000);
        var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
        producer.initTransactions();
        return producer;
    }

    private static void write(String bootstrap, String topic, String id, List<String> transactions) throws Exception {
        try (var producer = producer(bootstrap, id)) {
            for (String transaction : transactions) {
                String[] parts = transaction.split("=", 2);
                producer.beginTransaction();
                for (String value : parts[1].split(",")) {
                    producer.send(new ProducerRecord<>(topic, value));
                }
                producer.flush();
                switch (parts[0]) {
                    case "commit" -> producer.commitTransaction();
                    case "abort" -> producer.abortTransaction();
                    default -> Runtime.getRuntime().halt(0);
                }
            }
        }
    }

    private static void count(String bootstrap, String topic, String id, int count) {
        try (var producer = producer(bootstrap, id)) {
            int next = 0;
            while (next < count) {
                try {
                    producer.beginTransaction();
                    for (int partition = 0; partition < 2; partition++) {
                        producer.send(new ProducerRecord<>(topic, partition, null, Integer.toString(next)));
                    }
                    commit(producer);
                    System.out.println(next);
                    next++;
                } catch (ProducerFencedException fenced) {
                    throw fenced;
                } catch (KafkaException failed) {
                    System.err.println("again, after " + failed);
                    producer.abortTransaction();
                }
            }
        }
    }

    /** A commit that times out may have happened or not, and asking again tells. */
    private static void commit(KafkaProducer<String, String> producer) {
        while (true) {
            try {
                producer.commitTransaction();
                return;
            } catch (TimeoutException late) {
                System.err.println("asks again, after " + late);
            }
        }
    }

    private static void transform(
            String bootstrap, String input, String output, String id, String group, int count) throws Exception {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", bootstrap, "group.id", group, "auto.offset.reset", "earliest",
            "enable.auto.commit", false, "isolation.level", "read_committed", "max.poll.records", 7);
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
                var producer = producer(bootstrap, id)) {
            consumer.subscribe(List.of(input));
            int left = count;
            while (left > 0) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(500));
                if (records.isEmpty()) {
                    continue;
                }
                producer.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (ConsumerRecord<String, String> record : records) {
                    producer.send(new ProducerRecord<>(output, record.value().toUpperCase()));
                    offsets.put(new TopicPartition(record.topic(), record.partition()),
                        new OffsetAndMetadata(record.offset() + 1));
                }
                producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                producer.commitTransaction();
                left -= records.count();
            }
        }
    }
}
