// Apache Kafka's Java client: takes one call a line, as JSON, and answers each with one line. compat/client.py is the other
// end.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Compat {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final String bootstrap;
    private final Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
    private final Map<String, KafkaConsumer<byte[], byte[]>> members = new HashMap<>();
    private Admin admin;

    private Compat(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    public static void main(String[] arguments) throws Exception {
        Compat client = new Compat(arguments[0]);
        var input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            Map<String, Object> answer = new HashMap<>();
            try {
                JsonNode request = JSON.readTree(line);
                answer.put("result", client.answer(request.get("call").asText(), request));
            } catch (Exception error) {
                answer.put("error", error.toString());
            }
            System.out.println(JSON.writeValueAsString(answer));
        }
    }

    private Object answer(String call, JsonNode request) throws Exception {
        switch (call) {
            case "produce": return produce(request);
            case "read": return read(request);
            case "join": return join(request);
            case "poll": return poll(members.get(request.get("member").asText()));
            case "commit":
                members.get(request.get("member").asText()).commitSync();
                return null;
            case "leave":
                members.remove(request.get("member").asText()).close();
                return null;
            case "transact": return transact(request);
            default: return administer(call, request);
        }
    }

    private Object produce(JsonNode request) throws Exception {
        String at = request.get("bootstrap").asText();
        String codec = request.get("codec").asText();
        boolean idempotent = request.get("idempotent").asBoolean();
        var producer = producers.computeIfAbsent(at + codec + idempotent, key -> producer(Map.of(
            "bootstrap.servers", at, "client.id", "java", "compression.type", codec, "linger.ms", 5,
            "enable.idempotence", idempotent, "max.request.size", 2_000_000)));
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        for (JsonNode message : request.get("messages")) {
            List<Header> headers = new ArrayList<>();
            for (JsonNode header : message.get("headers")) {
                headers.add(new RecordHeader(header.get(0).asText(), bytes(header.get(1))));
            }
            answers.add(producer.send(new ProducerRecord<>(
                request.get("topic").asText(), message.get("partition").asInt(), message.get("timestamp").asLong(),
                bytes(message.get("key")), bytes(message.get("value")), headers)));
        }
        producer.flush();
        for (var answer : answers) {
            answer.get();
        }
        return null;
    }

    private Object read(JsonNode request) {
        var partition = new TopicPartition(request.get("topic").asText(), 0);
        long since = request.get("since").asLong();
        int count = request.get("count").asInt();
        String isolation = request.get("committed").asBoolean() ? "read_committed" : "read_uncommitted";
        List<Object> read = new ArrayList<>();
        try (var consumer = consumer(Map.of("bootstrap.servers", bootstrap, "isolation.level", isolation))) {
            consumer.assign(List.of(partition));
            if (since < 0) {
                consumer.seekToBeginning(List.of(partition));
            } else {
                consumer.seek(partition, consumer.offsetsForTimes(Map.of(partition, since)).get(partition).offset());
            }
            for (int left = 30; read.size() < count && left > 0; left--) {
                for (var record : consumer.poll(Duration.ofMillis(500))) {
                    read.add(fields(record));
                }
            }
        }
        return read;
    }

    private Object join(JsonNode request) {
        String protocol = request.get("protocol").asText();
        Map<String, Object> settings = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap, "group.id", request.get("group").asText(), "group.protocol", protocol,
            "auto.offset.reset", "earliest", "enable.auto.commit", false));
        if (protocol.equals("classic")) {
            settings.putAll(Map.of("session.timeout.ms", 30_000, "heartbeat.interval.ms", 300));
        }
        var consumer = consumer(settings);
        consumer.subscribe(List.of(request.get("topic").asText()));
        members.put(request.get("member").asText(), consumer);
        return null;
    }

    private Object poll(KafkaConsumer<byte[], byte[]> consumer) {
        List<String> values = new ArrayList<>();
        for (var record : consumer.poll(Duration.ofMillis(200))) {
            values.add(text(record.value()));
        }
        return Map.of("values", values, "assigned", consumer.assignment().size());
    }

    private Object transact(JsonNode request) {
        String name = request.get("producer").asText();
        var producer = producers.get(name);
        if (producer == null) {
            producer = producer(Map.of("bootstrap.servers", bootstrap, "transactional.id", request.get("id").asText(),
                "max.block.ms", 20_000));
            producers.put(name, producer);
            producer.initTransactions();
        }
        producer.beginTransaction();
        for (JsonNode value : request.get("values")) {
            producer.send(new ProducerRecord<>(request.get("topic").asText(), 0, null, bytes(value)));
        }
        producer.flush();
        JsonNode consumed = request.get("consumed");
        if (!consumed.isNull()) {
            var offset = new OffsetAndMetadata(consumed.get("offset").asLong());
            var offsets = Map.of(new TopicPartition(consumed.get("topic").asText(), 0), offset);
            var settings = Map.<String, Object>of("bootstrap.servers", bootstrap, "group.id", consumed.get("group").asText());
            try (var consumer = consumer(settings)) {
                producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
            }
        }
        if (request.get("outcome").asText().equals("commit")) {
            producer.commitTransaction();
        } else {
            producer.abortTransaction();
        }
        return null;
    }

    private Object administer(String call, JsonNode request) throws Exception {
        if (admin == null) {
            admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        }
        if (call.equals("topics")) {
            Map<String, Integer> topics = new HashMap<>();
            var described = admin.describeTopics(admin.listTopics().names().get()).topicNameValues();
            for (var topic : described.entrySet()) {
                topics.put(topic.getKey(), topic.getValue().get().partitions().size());
            }
            return topics;
        }
        String topic = request.get("topic").asText();
        switch (call) {
            case "createTopic":
                Map<String, String> config = new HashMap<>();
                request.get("config").properties().forEach(entry -> config.put(entry.getKey(), entry.getValue().asText()));
                var created = new NewTopic(topic, request.get("partitions").asInt(), (short) 1).configs(config);
                admin.createTopics(List.of(created)).all().get();
                return null;
            case "topicConfig":
                var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
                var described = admin.describeConfigs(List.of(resource)).all().get().get(resource);
                return described.get(request.get("name").asText()).value();
            case "growTopic":
                var grown = NewPartitions.increaseTo(request.get("partitions").asInt());
                admin.createPartitions(Map.of(topic, grown)).all().get();
                return null;
            case "deleteTopic":
                admin.deleteTopics(List.of(topic)).all().get();
                return null;
            default:
                throw new IllegalArgumentException(call);
        }
    }

    private static KafkaProducer<byte[], byte[]> producer(Map<String, Object> settings) {
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> settings) {
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static Map<String, Object> fields(ConsumerRecord<byte[], byte[]> record) {
        List<List<String>> headers = new ArrayList<>();
        record.headers().forEach(header -> headers.add(List.of(header.key(), text(header.value()))));
        Map<String, Object> fields = new HashMap<>(Map.of("timestamp", record.timestamp(), "headers", headers));
        fields.put("key", text(record.key()));
        fields.put("value", text(record.value()));
        return fields;
    }

    private static byte[] bytes(JsonNode text) {
        return text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }

    private static String text(byte[] bytes) {
        return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
    }
}
