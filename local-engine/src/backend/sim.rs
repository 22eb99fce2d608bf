//! A model that is a hash of all it reads through the pages: for property tests of everything above it.
