//! HTTP API, metrics, health.
