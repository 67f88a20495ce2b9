//! Each store does what a map in memory would do, across reopening and crashes.
