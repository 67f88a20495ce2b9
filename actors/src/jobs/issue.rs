//! Asking for a key and keeping its secret: one job, so that only numbers come back.
//!
//! **Invariant:** a label is sent once, ever.
//! **Invariant:** a secret lives here only between the provider's answer and the secret store.

use std::time::Duration;

use backon::Retryable;
use keybaton_messages::{Label, Version};
use keybaton_ports::{
    Denial, FingerprintKey, IssueRequest, IssuedKey, Refusal, SecretMeta, crash_point,
};
use keybaton_rotation::{Found, Input};

use super::Job;
use crate::limits::{SECRET_PUT_PATIENCE, STORE_RETRY};

impl Job {
    /// Provider call and secret-store put in one job: only numbers come back.
    pub(super) async fn issue(
        &self,
        version: Version,
        label: Label,
        lifetime: Option<Duration>,
        timeout: Duration,
    ) -> Input {
        let _under_way = self.shared.issue_jobs.begin(&label);
        let refused = |after, admin, why| Input::IssueRefused { version, after, admin, why };
        let unknown = |why: String| Input::IssueUnknown { version, why };
        if !self.shared.fence.may_act(self.shared.ports.clock.as_ref()) {
            return refused(None, false, "this node lost its lease".into());
        }
        let entry = match self.entry() {
            Ok(entry) => entry,
            Err(refusal) => return refused(None, true, refusal.to_string()),
        };
        let lifetime = lifetime.filter(|_| entry.provider.capabilities().lifetime);
        let request =
            IssueRequest { tenant: self.pair.tenant.clone(), label: label.clone(), lifetime };
        crash_point::reach("issue.sending", &self.pair.tenant);
        let asked = tokio::time::timeout(timeout, entry.provider.issue(&request)).await;
        crash_point::reach("issue.answered", &self.pair.tenant);
        let issued = match asked {
            Err(_elapsed) => return unknown(format!("no answer within {timeout:?}")),
            Ok(Err(Refusal::Unknown { why })) => return unknown(why),
            Ok(Err(Refusal::Busy { after, why })) => return refused(after, false, why),
            Ok(Err(Refusal::Denied { denial, why })) => {
                return refused(None, denial == Denial::Admin, why);
            }
            Ok(Ok(issued)) => issued,
        };
        self.keep(version, label, issued).await
    }

    /// Offers the secret to the store until it takes it; if it will not, the key is of no use to
    /// anyone, and the sweep of its burned label finds and ends it. It is not revoked here: only a
    /// committed decision may, after it was looked whether nobody else claims the key.
    pub(super) async fn keep(&self, version: Version, label: Label, issued: IssuedKey) -> Input {
        let IssuedKey { key_id, secret, expires_at } = issued;
        let meta = SecretMeta {
            pair: self.pair.clone(),
            label: Some(label),
            key_id: key_id.clone(),
            issued_at: self.shared.ports.clock.now(),
            expires_at,
        };
        if crash_point::doubles("secret.put", &self.pair.tenant) {
            drop(self.shared.ports.secrets.put(&meta, &secret).await);
        }
        let put = || self.shared.ports.secrets.put(&meta, &secret);
        let stored = put
            .retry(STORE_RETRY.with_total_delay(Some(SECRET_PUT_PATIENCE)))
            .notify(|refusal, _| {
                tracing::warn!(pair = %self.pair, %version, %refusal, "secret not stored yet");
            })
            .await;
        match stored {
            Ok(stored) => {
                crash_point::reach("issue.stored", &self.pair.tenant);
                let keys: &FingerprintKey = &self.shared.ports.fingerprints;
                let fp = keys.fingerprint(&secret);
                Input::Issued { version, key_id, secret: stored, fp, expires_at }
            }
            Err(refusal) => {
                let why = format!("the secret store would not take the secret: {refusal}");
                Input::IssueUnknown { version, why }
            }
        }
    }

    /// Asks until the store answers: "not found" must be a fact.
    pub(super) async fn locate(&self, version: Version, label: &Label) -> Option<Input> {
        self.shared.issue_jobs.ended(label).await;
        let find = || self.shared.ports.secrets.find(&self.pair, label);
        let answer = find.retry(STORE_RETRY).notify(|refusal, _| {
            tracing::warn!(pair = %self.pair, %version, %refusal, "label not looked up yet");
        });
        let found = answer.await.ok()?.map(|(secret, stored)| Found {
            key_id: stored.meta.key_id,
            secret,
            fp: self.shared.ports.fingerprints.fingerprint(&stored.secret),
            expires_at: stored.meta.expires_at,
        });
        Some(Input::Located { version, found })
    }
}
