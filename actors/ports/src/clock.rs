//! Time and chance, so that neither is taken from the air.

use std::time::Duration;

use keybaton_messages::Timestamp;

/// Tells time.
pub trait Clock: Send + Sync {
    /// Store time. Never goes back within one life of a node.
    fn now(&self) -> Timestamp;

    /// Time since boot that also runs while the machine is suspended, for leases.
    fn boottime(&self) -> Duration;
}

/// Gives random bytes.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` with random ones fit for keys and ids.
    fn fill(&self, bytes: &mut [u8]);

    /// Sixteen of them, for ids.
    fn bytes16(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes
    }

    /// Eight of them, for jitter.
    fn bits(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }
}
