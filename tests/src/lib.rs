//! What the integration tests share: starting guests with a deadline and reading what they say.
