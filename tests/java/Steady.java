// Kafka's own client as a program that goes on: `Steady BOOTSTRAP TOPIC INTERVAL_MS` sends 0, 1, 2, … to the topic's
// first partition, one each interval, with the client's own settings, and prints `done NUMBER OFFSET MICROSECONDS` for each
// that is acknowledged, or `failed NUMBER REASON`. It ends what it has begun when its input ends. harness/steady.py is
// the other end.

import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

public class Steady {
    public static void main(String[] arguments) throws Exception {
        var out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        String topic = arguments[1];
        long intervalNanos = Long.parseLong(arguments[2]) * 1_000_000;
        var stop = new AtomicBoolean();
        var input = new Thread(() -> waitForEnd(stop));
        input.setDaemon(true);
        input.start();
        Map<String, Object> settings = Map.of("bootstrap.servers", arguments[0]);
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            long due = System.nanoTime();
            for (int number = 0; !stop.get(); number++) {
                int sent = number;
                long began = System.nanoTime();
                producer.send(new ProducerRecord<>(topic, 0, null, sent + ":"), (metadata, error) -> {
                    synchronized (out) {
                        if (error == null) {
                            out.println("done " + sent + " " + metadata.offset() + " " + (System.nanoTime() - began) / 1000);
                        } else {
                            out.println("failed " + sent + " " + error);
                        }
                        out.flush();
                    }
                });
                due += intervalNanos;
                long wait = due - System.nanoTime();
                if (wait > 0) {
                    Thread.sleep(wait / 1_000_000, (int) (wait % 1_000_000));
                }
            }
        }
    }

    private static void waitForEnd(AtomicBoolean stop) {
        try {
            while (System.in.read() >= 0) {
                continue;
            }
        } catch (IOException error) {
            // As good as an end.
        }
        stop.set(true);
    }
}
