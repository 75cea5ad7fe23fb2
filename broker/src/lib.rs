//! The queue: topology as data, and its RabbitMQ and embedded implementations.
