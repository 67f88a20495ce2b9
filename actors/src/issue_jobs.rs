//! Which labels this process is asking a provider for right now.
//!
//! **Invariant:** whoever looks for a label's secret first waits for this process's own job for it,
//! so that "not found" never means "not yet stored".

use std::sync::Arc;

use dashmap::DashMap;
use keybaton_messages::Label;
use tokio::sync::Notify;

/// The jobs under way. They outlive the actor that started them.
#[derive(Default)]
pub struct IssueJobs(DashMap<Label, Arc<Notify>>);

/// One job under way; ends when dropped.
pub struct IssueJob<'a> {
    jobs: &'a IssueJobs,
    label: Label,
}

impl IssueJobs {
    /// Marks a label as being asked for.
    #[must_use]
    pub fn begin(&self, label: &Label) -> IssueJob<'_> {
        self.0.insert(label.clone(), Arc::new(Notify::new()));
        IssueJob { jobs: self, label: label.clone() }
    }

    /// Waits until no job for the label is under way.
    pub async fn ended(&self, label: &Label) {
        while let Some(notify) = self.0.get(label).map(|entry| entry.value().clone()) {
            let waiting = notify.notified();
            tokio::pin!(waiting);
            waiting.as_mut().enable();
            if !self.0.contains_key(label) {
                return;
            }
            waiting.await;
        }
    }
}

impl Drop for IssueJob<'_> {
    fn drop(&mut self) {
        if let Some((_, notify)) = self.jobs.0.remove(&self.label) {
            notify.notify_waiters();
        }
    }
}
