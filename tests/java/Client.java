// Kafka's own client as a program: `produce BOOTSTRAP TOPIC CODEC ACKS` reads messages, one JSON object a line, and
// answers with where each went; `consume BOOTSTRAP TOPIC COUNT GROUP` prints records; a topic that begins with `re2:` is a
// pattern that the broker resolves. `describe BOOTSTRAP GROUP` tells of a group. Bytes are base64.
// harness/clients.py is the other end.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Client {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);

    public static void main(String[] arguments) throws Exception {
        String bootstrap = arguments[1];
        String topic = arguments[2];
        if (arguments[0].equals("produce")) {
            produce(bootstrap, topic, arguments[3], arguments[4]);
        } else if (arguments[0].equals("describe")) {
            describe(bootstrap, topic);
        } else {
            consume(bootstrap, topic, Integer.parseInt(arguments[3]), arguments[4]);
        }
        OUT.flush();
    }

    private static void produce(String bootstrap, String topic, String codec, String acks) throws Exception {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", bootstrap,
            "compression.type", codec,
            "acks", acks.equals("-1") ? "all" : acks,
            // The default, idempotent, goes with acks=all only.
            "enable.idempotence", acks.equals("-1"),
            "linger.ms", 20);
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
                var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                JsonNode message = JSON.readTree(line);
                List<Header> headers = new ArrayList<>();
                for (JsonNode header : message.get("headers")) {
                    headers.add(new RecordHeader(header.get(0).asText(), bytes(header.get(1))));
                }
                answers.add(producer.send(new ProducerRecord<>(
                    topic, message.get("partition").asInt(), message.get("timestamp").asLong(),
                    bytes(message.get("key")), bytes(message.get("value")), headers)));
            }
            producer.flush();
        }
        for (Future<RecordMetadata> answer : answers) {
            RecordMetadata metadata = answer.get();
            ObjectNode node = JSON.createObjectNode();
            node.put("partition", metadata.partition()).put("offset", metadata.offset());
            OUT.println(node);
        }
    }

    private static void consume(String bootstrap, String topic, int count, String group) {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", bootstrap, "group.id", group, "auto.offset.reset", "earliest",
            "group.protocol", System.getProperty("groupProtocol", "classic"));
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            if (topic.startsWith("re2:")) {
                consumer.subscribe(new SubscriptionPattern(topic.substring(4)));
            } else {
                consumer.subscribe(List.of(topic));
            }
            int left = count;
            while (left > 0) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                    ObjectNode node = JSON.createObjectNode();
                    node.put("partition", record.partition()).put("offset", record.offset());
                    node.put("timestamp", record.timestamp());
                    node.put("key", text(record.key())).put("value", text(record.value()));
                    ArrayNode headers = node.putArray("headers");
                    for (Header header : record.headers()) {
                        headers.addArray().add(header.key()).add(text(header.value()));
                    }
                    OUT.println(node);
                    left--;
                }
            }
        }
    }

    private static void describe(String bootstrap, String group) throws Exception {
        try (var admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            var described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            ObjectNode node = JSON.createObjectNode();
            node.put("type", described.type().toString()).put("state", described.groupState().toString());
            ArrayNode members = node.putArray("members");
            described.members().forEach(member -> members.add(member.assignment().topicPartitions().size()));
            OUT.println(node);
        }
    }

    private static byte[] bytes(JsonNode text) {
        return text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }

    private static String text(byte[] bytes) {
        return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
    }
}
