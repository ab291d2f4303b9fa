//! Async client for Highwater and Apache Kafka.
