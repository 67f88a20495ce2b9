//! What the port `Provider` promises, sentence by sentence, for every adapter and every fake.
//!
//! A [`ProviderWorld`] is a vendor that can go wrong on request and whose own books say what
//! really happened; the cases compare what the provider says with these books.

pub mod issue;
pub mod look;
pub mod revoke;

use std::sync::Arc;
use std::time::Duration;

use keybaton_messages::{DeploymentId, Label, PairTag, ProviderKeyId, TenantId, Version};
use keybaton_ports::{Denial, IssueRequest, IssuedKey, Provider, Refusal};
use keybaton_simulator::{Fault, Op};

/// Longest wait for one call of [`ProviderWorld::impatient`].
pub const PATIENCE: Duration = Duration::from_millis(250);

/// Longer than [`PATIENCE`] by far.
const STALL: Duration = Duration::from_secs(60);

/// Long enough to look before it is over, short enough to wait for.
const SOON: Duration = Duration::from_millis(150);

/// Longest wait for something that will happen.
const EVENTUALLY: Duration = Duration::from_secs(20);

/// A vendor, seen from behind the counter.
pub trait ProviderWorld: Send + Sync {
    /// The provider that is tested.
    fn provider(&self) -> Arc<dyn Provider>;

    /// The same, but it gives up on a call after [`PATIENCE`].
    fn impatient(&self) -> Arc<dyn Provider>;

    /// The same with an admin credential that the vendor refuses.
    fn with_wrong_admin_key(&self) -> Arc<dyn Provider>;

    /// The same, where nobody listens.
    fn unreachable(&self) -> Arc<dyn Provider>;

    /// Lets the next call of that kind go wrong.
    fn arm(&self, op: Op, fault: Fault);

    /// Makes a key of `tenant` that nobody asked for.
    fn plant(&self, tenant: &TenantId, name: &str);

    /// Names of the keys of `tenant` that authenticate, in any order.
    fn names_alive(&self, tenant: &TenantId) -> Vec<String>;

    /// Whether this key authenticates.
    fn is_alive(&self, key: &ProviderKeyId) -> bool;
}

/// A tenant of the world.
#[must_use]
pub fn tenant() -> TenantId {
    TenantId::new("acme").expect("a tenant")
}

/// Another tenant of the world.
#[must_use]
pub fn neighbour() -> TenantId {
    TenantId::new("umbrella").expect("a tenant")
}

/// A tenant whose project the vendor does not know.
#[must_use]
pub fn homeless() -> TenantId {
    TenantId::new("homeless").expect("a tenant")
}

/// Runs every case as a test of its own, each in a new world.
///
/// `$open` is an async function without arguments that opens one.
#[macro_export]
macro_rules! provider_conformance {
    ($open:path) => {
        $crate::provider_conformance! { $open =>
            issue::an_issued_key_is_alive_listed_and_named_by_its_label
            issue::every_fault_of_an_issue_ends_as_the_contract_says
            issue::an_issue_that_is_cut_short_may_happen_later
            issue::a_bad_key_is_found_by_its_probe
            issue::a_key_may_be_issued_under_the_id_of_another
            issue::a_key_that_is_listed_late_is_listed_in_the_end
            issue::a_key_that_voids_the_older_ones_leaves_itself_alive
            issue::many_issues_at_once_give_as_many_keys
            revoke::a_revoked_key_is_dead_and_unlisted_and_may_be_revoked_again
            revoke::every_fault_of_a_revoke_can_be_repeated_until_the_key_is_gone
            revoke::a_revoke_is_not_confirmed_by_a_listing_that_failed
            revoke::a_slow_death_is_confirmed_when_the_key_is_unlisted
            revoke::a_key_of_a_neighbour_is_neither_revoked_nor_listed
            look::a_listing_has_all_pages_and_only_the_prefix
            look::two_keys_with_one_label_are_both_listed
            look::every_fault_of_a_listing_ends_as_the_contract_says
            look::preflight_changes_nothing_and_ends_like_a_listing
            look::every_fault_of_a_probe_ends_as_the_contract_says
            look::a_probe_tells_the_dead_from_the_living
            look::a_refused_admin_credential_is_denied_everywhere
            look::a_missing_project_is_denied_everywhere
            look::nothing_is_sent_to_a_provider_that_cannot_be_reached
        }
    };
    ($open:path => $($part:ident :: $case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                let world = $open().await;
                $crate::conformance::provider::$part::$case(&world).await;
            }
        )*
    };
}

/// How a call ended, without what it brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Busy(Option<Duration>),
    Unknown,
    Denied(Denial),
}

fn end<T>(result: &Result<T, Refusal>) -> End {
    match result {
        Ok(_) => End::Done,
        Err(Refusal::Busy { after, .. }) => End::Busy(*after),
        Err(Refusal::Unknown { .. }) => End::Unknown,
        Err(Refusal::Denied { denial, .. }) => End::Denied(*denial),
    }
}

fn label(version: u32) -> Label {
    let deployment = DeploymentId::from_digest(&[7; 16]);
    Label::new(&deployment, &PairTag::from_digest(&[8; 16]), Version(version))
}

fn prefix() -> String {
    Label::prefix(&DeploymentId::from_digest(&[7; 16]))
}

fn request(version: u32) -> IssueRequest {
    IssueRequest { tenant: tenant(), label: label(version), lifetime: None }
}

async fn issue(provider: &dyn Provider, version: u32) -> IssuedKey {
    provider.issue(&request(version)).await.expect("issued")
}

/// Waits for a level, not for a time.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let looking = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(EVENTUALLY, looking).await.expect(what);
}
