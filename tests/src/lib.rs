//! Fixture servers and helpers of the integration tests.
