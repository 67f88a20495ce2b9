//! The directory from a pair's key to the pair. Looked up once per task, off the hot path.

use std::hash::Hash;
use std::sync::Arc;

use dashmap::DashMap;

use crate::pair::Pair;

/// All pairs of a node. `K` names a pair, `N` a member of it.
///
/// Owned by the node and shared by reference, so that it outlives every actor that uses it.
pub struct Registry<K, N> {
    pairs: DashMap<K, Arc<Pair<N>>>,
}

impl<K: Eq + Hash + Clone, N> Registry<K, N> {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self { pairs: DashMap::new() }
    }

    /// The pair named `key`, made if there was none.
    pub fn pair(&self, key: &K) -> Arc<Pair<N>> {
        if let Some(pair) = self.get(key) {
            return pair;
        }
        Arc::clone(&self.pairs.entry(key.clone()).or_default())
    }

    /// The pair named `key`, if there is one.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<Arc<Pair<N>>> {
        self.pairs.get(key).map(|pair| Arc::clone(&pair))
    }

    /// All pairs there are, in no order. Pairs made meanwhile may be missing.
    #[must_use]
    pub fn pairs(&self) -> Vec<(K, Arc<Pair<N>>)> {
        self.pairs.iter().map(|entry| (entry.key().clone(), Arc::clone(entry.value()))).collect()
    }

    /// Forgets a pair that nobody uses: no handle, no member, no slot open or draining. False if
    /// it is in use and stays.
    pub fn retire(&self, key: &K) -> bool {
        // Under the directory's lock nobody can get at a pair that only the directory knows.
        let is_unused = |pair: &Arc<Pair<N>>| Arc::strong_count(pair) == 1 && pair.is_unused();
        self.pairs.remove_if(key, |_, pair| is_unused(pair)).is_some()
    }

    /// How many pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Is there no pair at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

impl<K: Eq + Hash + Clone, N> Default for Registry<K, N> {
    fn default() -> Self {
        Self::new()
    }
}
