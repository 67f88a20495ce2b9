//! The same seed is the same run; whatever fails is found again by its seed.
