//! The oracle: the same decoder in plain f32, as slow and as clear as can be.
