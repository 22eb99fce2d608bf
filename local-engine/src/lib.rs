//! The inference engine. Knows nothing of HTTP, teams or money.
