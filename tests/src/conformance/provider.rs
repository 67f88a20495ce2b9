//! What the port `Provider` promises, sentence by sentence, for every adapter and every fake.
//!
//! A [`ProviderWorld`] is a vendor that can go wrong on request and whose own books say what
//! really happened; the cases compare what the provider says with these books.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keybaton_messages::{DeploymentId, Label, PairTag, ProviderKeyId, TenantId, Version};
use keybaton_ports::{Denial, IssueRequest, IssuedKey, Provider, Refusal, Secret};
use keybaton_rotation::Health;
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
            an_issued_key_is_alive_listed_and_named_by_its_label
            every_fault_of_an_issue_ends_as_the_contract_says
            an_issue_that_is_cut_short_may_happen_later
            a_bad_key_is_found_by_its_probe
            a_key_may_be_issued_under_the_id_of_another
            a_key_that_is_listed_late_is_listed_in_the_end
            a_key_that_voids_the_older_ones_leaves_itself_alive
            many_issues_at_once_give_as_many_keys
            a_revoked_key_is_dead_and_unlisted_and_may_be_revoked_again
            every_fault_of_a_revoke_can_be_repeated_until_the_key_is_gone
            a_revoke_is_not_confirmed_by_a_listing_that_failed
            a_slow_death_is_confirmed_when_the_key_is_unlisted
            a_key_of_a_neighbour_is_neither_revoked_nor_listed
            a_listing_has_all_pages_and_only_the_prefix
            two_keys_with_one_label_are_both_listed
            every_fault_of_a_listing_ends_as_the_contract_says
            preflight_changes_nothing_and_ends_like_a_listing
            every_fault_of_a_probe_ends_as_the_contract_says
            a_probe_tells_the_dead_from_the_living
            a_refused_admin_credential_is_denied_everywhere
            a_missing_project_is_denied_everywhere
            nothing_is_sent_to_a_provider_that_cannot_be_reached
        }
    };
    ($open:path => $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                let world = $open().await;
                $crate::conformance::provider::$case(&world).await;
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
    Label::new(
        &deployment,
        &PairTag::from_digest(&[8; 16]),
        Version(version),
    )
}

fn prefix() -> String {
    Label::prefix(&DeploymentId::from_digest(&[7; 16]))
}

fn request(version: u32) -> IssueRequest {
    IssueRequest {
        tenant: tenant(),
        label: label(version),
        lifetime: None,
    }
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

/// An issued key authenticates, has the asked lifetime and stands in the listing under its label.
pub async fn an_issued_key_is_alive_listed_and_named_by_its_label(world: &impl ProviderWorld) {
    let provider = world.provider();
    let lifetime = provider
        .capabilities()
        .lifetime
        .then_some(Duration::from_secs(3600));
    let issued = provider
        .issue(&IssueRequest {
            lifetime,
            ..request(1)
        })
        .await
        .expect("issued");
    assert_eq!(issued.expires_at.is_some(), lifetime.is_some());
    assert!(world.is_alive(&issued.key_id));
    assert_eq!(world.names_alive(&tenant()), [label(1).as_str()]);
    assert_eq!(
        provider.probe(&tenant(), &issued.secret).await,
        Health::Alive
    );

    let listed = provider.list(&tenant(), &prefix()).await.expect("listed");
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0].key_id, listed[0].name.as_str()),
        (&issued.key_id, label(1).as_str())
    );
}

/// "Nothing happened" is said only when nothing happened; what is unreadable is Unknown.
pub async fn every_fault_of_an_issue_ends_as_the_contract_says(world: &impl ProviderWorld) {
    let limit = Duration::from_secs(2);
    for (version, (fault, expected, born)) in (1..).zip([
        (Fault::AckLost, End::Unknown, true),
        (Fault::Dropped, End::Unknown, false),
        (Fault::Stall(STALL), End::Unknown, false),
        (Fault::RateLimited(limit), End::Busy(Some(limit)), false),
        (Fault::ServerError, End::Unknown, false),
        (Fault::Quota, End::Denied(Denial::Quota), false),
        (Fault::Forbidden, End::Denied(Denial::Admin), false),
        (Fault::Truncated, End::Unknown, true),
        (Fault::HtmlBody, End::Unknown, true),
        (Fault::EmptyBody, End::Unknown, true),
        (Fault::HugeBody, End::Unknown, true),
        (Fault::ForeignKey, End::Unknown, false),
        (Fault::KeyNewline, End::Unknown, true),
        (Fault::KeyNul, End::Unknown, true),
        (Fault::KeyNonAscii, End::Unknown, true),
        (Fault::KeyEmpty, End::Unknown, true),
        (Fault::KeyLong, End::Unknown, true),
        (Fault::IdMissing, End::Unknown, true),
    ]) {
        let provider = match fault {
            Fault::Stall(_) => world.impatient(),
            _ => world.provider(),
        };
        world.arm(Op::Issue, fault);
        let issued = provider.issue(&request(version)).await;
        assert_eq!(end(&issued), expected, "{fault}");
        let name = label(version).to_string();
        assert_eq!(
            world.names_alive(&tenant()).contains(&name),
            born,
            "{fault}"
        );
        // What was born without an answer is found by its label, so that it can be revoked.
        let listed = world
            .provider()
            .list(&tenant(), label(version).as_str())
            .await;
        for orphan in listed.expect("listed") {
            assert!(born, "{fault}");
            world
                .provider()
                .revoke(&tenant(), &orphan.key_id)
                .await
                .expect("revoked");
        }
        assert!(!world.names_alive(&tenant()).contains(&name), "{fault}");
    }
}

/// Unknown is honest: the key of a call that got no answer may be born afterwards.
pub async fn an_issue_that_is_cut_short_may_happen_later(world: &impl ProviderWorld) {
    world.arm(Op::Issue, Fault::Late(SOON));
    let issued = world.provider().issue(&request(1)).await;
    assert_eq!(end(&issued), End::Unknown);
    until("born late", || {
        world.names_alive(&tenant()) == [label(1).as_str()]
    })
    .await;
    let listed = world
        .provider()
        .list(&tenant(), &prefix())
        .await
        .expect("listed");
    assert_eq!(listed.len(), 1);
}

/// A secret that opens nothing looks like any other until it is probed.
pub async fn a_bad_key_is_found_by_its_probe(world: &impl ProviderWorld) {
    world.arm(Op::Issue, Fault::BadKey);
    let issued = issue(&*world.provider(), 1).await;
    assert_eq!(
        world.provider().probe(&tenant(), &issued.secret).await,
        Health::Dead
    );
    assert!(
        world.is_alive(&issued.key_id),
        "the real key has to be revoked all the same"
    );
}

/// The provider has no memory: an id that another version has is for the rotation to refuse.
pub async fn a_key_may_be_issued_under_the_id_of_another(world: &impl ProviderWorld) {
    let first = issue(&*world.provider(), 1).await;
    world.arm(Op::Issue, Fault::DuplicateId);
    let second = world.provider().issue(&request(2)).await;
    assert_eq!(world.names_alive(&tenant()).len(), 2);
    match second {
        Ok(second) => {
            let raw = |id: &ProviderKeyId| id.as_str().split('/').map(str::to_owned).next_back();
            assert!(!second.secret.is_same(&first.secret));
            let is_own = second.key_id.as_str().ends_with("/own");
            assert!(is_own || raw(&second.key_id) == raw(&first.key_id));
        }
        Err(refusal) => assert_eq!(end::<()>(&Err(refusal)), End::Unknown),
    }
}

/// An absence from one listing proves nothing about a key that was just issued.
pub async fn a_key_that_is_listed_late_is_listed_in_the_end(world: &impl ProviderWorld) {
    world.arm(Op::Issue, Fault::EventualList(SOON));
    let issued = issue(&*world.provider(), 1).await;
    assert_eq!(
        world.provider().probe(&tenant(), &issued.secret).await,
        Health::Alive
    );
    let looking = async {
        loop {
            let listed = world
                .provider()
                .list(&tenant(), &prefix())
                .await
                .expect("listed");
            if let [key] = &listed[..] {
                break key.key_id.clone();
            }
        }
    };
    let found = tokio::time::timeout(EVENTUALLY, looking)
        .await
        .expect("listed in the end");
    assert_eq!(found, issued.key_id);
}

/// Where issuing voids, the answer is about the key that lives.
pub async fn a_key_that_voids_the_older_ones_leaves_itself_alive(world: &impl ProviderWorld) {
    let first = issue(&*world.provider(), 1).await;
    world.arm(Op::Issue, Fault::VoidOnIssue);
    let second = issue(&*world.provider(), 2).await;
    let provider = world.provider();
    assert_eq!(provider.probe(&tenant(), &first.secret).await, Health::Dead);
    assert_eq!(
        provider.probe(&tenant(), &second.secret).await,
        Health::Alive
    );
}

/// At most one key per call, also when calls meet.
pub async fn many_issues_at_once_give_as_many_keys(world: &impl ProviderWorld) {
    const ISSUES: u32 = 20;
    let provider = world.provider();
    let issues = (1..=ISSUES).map(|version| {
        let provider = Arc::clone(&provider);
        async move { issue(&*provider, version).await }
    });
    let issued = futures::future::join_all(issues).await;
    let mut names = world.names_alive(&tenant());
    names.sort();
    let asked: Vec<String> = (1..=ISSUES)
        .map(|version| label(version).to_string())
        .collect();
    assert_eq!(names, asked);
    for (no, key) in issued.iter().enumerate() {
        assert!(issued[..no].iter().all(|other| other.key_id != key.key_id));
        assert!(
            issued[..no]
                .iter()
                .all(|other| !other.secret.is_same(&key.secret))
        );
    }
}

/// Revoking one that is gone succeeds, and touches no other.
pub async fn a_revoked_key_is_dead_and_unlisted_and_may_be_revoked_again(
    world: &impl ProviderWorld,
) {
    let provider = world.provider();
    let (first, second) = (issue(&*provider, 1).await, issue(&*provider, 2).await);
    for _ in 0..2 {
        provider
            .revoke(&tenant(), &first.key_id)
            .await
            .expect("revoked");
        assert!(!world.is_alive(&first.key_id));
        assert_eq!(provider.probe(&tenant(), &first.secret).await, Health::Dead);
        let listed = provider.list(&tenant(), &prefix()).await.expect("listed");
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].key_id, second.key_id);
    }
    assert_eq!(
        provider.probe(&tenant(), &second.secret).await,
        Health::Alive
    );
}

/// Whatever happens to a revoke: it says Ok only of a dead key, and can be asked again.
pub async fn every_fault_of_a_revoke_can_be_repeated_until_the_key_is_gone(
    world: &impl ProviderWorld,
) {
    let limit = Duration::from_secs(2);
    for (version, (fault, expected)) in (1..).zip([
        (Fault::AckLost, Some(End::Unknown)),
        (Fault::Dropped, Some(End::Unknown)),
        (Fault::Late(SOON), Some(End::Unknown)),
        (Fault::Stall(STALL), Some(End::Unknown)),
        (Fault::RateLimited(limit), Some(End::Busy(Some(limit)))),
        (Fault::ServerError, Some(End::Unknown)),
        (Fault::Forbidden, Some(End::Denied(Denial::Admin))),
        // The answer's body tells nothing that the listing does not tell better.
        (Fault::Truncated, None),
        (Fault::HtmlBody, None),
        (Fault::EmptyBody, None),
        (Fault::HugeBody, None),
    ]) {
        let issued = issue(&*world.provider(), version).await;
        let provider = match fault {
            Fault::Stall(_) => world.impatient(),
            _ => world.provider(),
        };
        world.arm(Op::Revoke, fault);
        let revoked = end(&provider.revoke(&tenant(), &issued.key_id).await);
        match expected {
            Some(expected) => assert_eq!(revoked, expected, "{fault}"),
            None => assert!(
                matches!(revoked, End::Done | End::Unknown),
                "{fault} {revoked:?}"
            ),
        }
        if revoked == End::Done {
            assert!(!world.is_alive(&issued.key_id), "{fault}");
        }
        world
            .provider()
            .revoke(&tenant(), &issued.key_id)
            .await
            .expect("revoked");
        assert!(!world.is_alive(&issued.key_id), "{fault}");
    }
}

/// `Ok` only once the key is absent from a listing that succeeded.
pub async fn a_revoke_is_not_confirmed_by_a_listing_that_failed(world: &impl ProviderWorld) {
    for (version, fault) in (1..).zip([
        Fault::Dropped,
        Fault::AckLost,
        Fault::ServerError,
        Fault::Forbidden,
        Fault::RateLimited(SOON),
        Fault::Truncated,
        Fault::HtmlBody,
        Fault::EmptyBody,
        Fault::HugeBody,
    ]) {
        let issued = issue(&*world.provider(), version).await;
        world.arm(Op::List, fault);
        let revoked = world.provider().revoke(&tenant(), &issued.key_id).await;
        // The key is dead already, so that "nothing happened" would be a lie.
        assert_eq!(end(&revoked), End::Unknown, "{fault}");
        world
            .provider()
            .revoke(&tenant(), &issued.key_id)
            .await
            .expect("revoked");
    }
}

/// Some vendors' keys live on for a while; who must be sure of the death asks by probe.
pub async fn a_slow_death_is_confirmed_when_the_key_is_unlisted(world: &impl ProviderWorld) {
    let issued = issue(&*world.provider(), 1).await;
    world.arm(Op::Revoke, Fault::SlowRevoke(SOON));
    world
        .provider()
        .revoke(&tenant(), &issued.key_id)
        .await
        .expect("revoked");
    until("dead in the end", || !world.is_alive(&issued.key_id)).await;
    assert_eq!(
        world.provider().probe(&tenant(), &issued.secret).await,
        Health::Dead
    );
}

/// A call for one tenant cannot reach another's keys, whatever id it is given.
pub async fn a_key_of_a_neighbour_is_neither_revoked_nor_listed(world: &impl ProviderWorld) {
    let provider = world.provider();
    let issued = issue(&*provider, 1).await;
    assert_eq!(provider.list(&neighbour(), "").await.expect("listed"), []);
    let revoked = provider.revoke(&neighbour(), &issued.key_id).await;
    assert!(matches!(end(&revoked), End::Denied(_)), "{revoked:?}");
    assert!(world.is_alive(&issued.key_id));
}

/// All pages, whoever made the keys; a prefix selects by name.
pub async fn a_listing_has_all_pages_and_only_the_prefix(world: &impl ProviderWorld) {
    const KEYS: u32 = 250;
    for version in 1..=KEYS {
        world.plant(&tenant(), label(version).as_str());
    }
    world.plant(&tenant(), "made by hand");
    world.plant(&neighbour(), label(KEYS + 1).as_str());
    let provider = world.provider();
    let ours = provider.list(&tenant(), &prefix()).await.expect("listed");
    let listed: BTreeSet<String> = ours.iter().map(|key| key.name.clone()).collect();
    let planted: BTreeSet<String> = (1..=KEYS).map(|version| label(version).into()).collect();
    assert!(
        listed == planted,
        "{} names instead of {}",
        listed.len(),
        planted.len()
    );
    assert_eq!(ours.len(), planted.len());
    let all = provider.list(&tenant(), "").await.expect("listed");
    assert_eq!(all.len(), planted.len() + 1);
    let one = provider
        .list(&tenant(), label(17).as_str())
        .await
        .expect("listed");
    assert_eq!(one.len(), 1);
}

/// Labels are not unique at the vendor: a late execution and a repeat share one.
pub async fn two_keys_with_one_label_are_both_listed(world: &impl ProviderWorld) {
    let provider = world.provider();
    let (first, second) = (issue(&*provider, 1).await, issue(&*provider, 1).await);
    let mut listed: Vec<ProviderKeyId> = provider
        .list(&tenant(), label(1).as_str())
        .await
        .expect("listed")
        .into_iter()
        .map(|key| key.key_id)
        .collect();
    listed.sort();
    let mut issued = [first.key_id.clone(), second.key_id.clone()];
    issued.sort();
    assert_eq!(listed, issued);
    provider
        .revoke(&tenant(), &first.key_id)
        .await
        .expect("revoked");
    assert!(world.is_alive(&second.key_id));
}

/// What a failed read with the admin credential says.
fn read_faults() -> [(Fault, End); 9] {
    let limit = Duration::from_secs(2);
    [
        (Fault::AckLost, End::Unknown),
        (Fault::Dropped, End::Unknown),
        (Fault::ServerError, End::Unknown),
        (Fault::Truncated, End::Unknown),
        (Fault::HtmlBody, End::Unknown),
        (Fault::EmptyBody, End::Unknown),
        (Fault::HugeBody, End::Unknown),
        (Fault::RateLimited(limit), End::Busy(Some(limit))),
        (Fault::Forbidden, End::Denied(Denial::Admin)),
    ]
}

/// A listing is whole or it is refused.
pub async fn every_fault_of_a_listing_ends_as_the_contract_says(world: &impl ProviderWorld) {
    issue(&*world.provider(), 1).await;
    for (fault, expected) in read_faults() {
        world.arm(Op::List, fault);
        let listed = world.provider().list(&tenant(), "").await;
        assert_eq!(end(&listed), expected, "{fault}");
    }
    world.arm(Op::List, Fault::Stall(STALL));
    assert_eq!(
        end(&world.impatient().list(&tenant(), "").await),
        End::Unknown
    );
    assert_eq!(
        world
            .provider()
            .list(&tenant(), "")
            .await
            .expect("listed")
            .len(),
        1
    );
}

/// Asking whether an issue can succeed is no issue.
pub async fn preflight_changes_nothing_and_ends_like_a_listing(world: &impl ProviderWorld) {
    let provider = world.provider();
    provider.preflight(&tenant()).await.expect("ready");
    for (fault, expected) in read_faults() {
        world.arm(Op::List, fault);
        assert_eq!(
            end(&provider.preflight(&tenant()).await),
            expected,
            "{fault}"
        );
    }
    assert!(world.names_alive(&tenant()).is_empty());
}

/// A key is dead only when the vendor says so.
pub async fn every_fault_of_a_probe_ends_as_the_contract_says(world: &impl ProviderWorld) {
    let issued = issue(&*world.provider(), 1).await;
    for (fault, expected) in [
        (Fault::AckLost, Health::Unknown),
        (Fault::Dropped, Health::Unknown),
        (Fault::ServerError, Health::Unknown),
        (Fault::Quota, Health::Unknown),
        (Fault::Truncated, Health::Unknown),
        (Fault::HtmlBody, Health::Unknown),
        (Fault::EmptyBody, Health::Unknown),
        (Fault::HugeBody, Health::Unknown),
        (Fault::Forbidden, Health::MissingScopes),
    ] {
        world.arm(Op::Probe, fault);
        let health = world.provider().probe(&tenant(), &issued.secret).await;
        assert_eq!(health, expected, "{fault}");
    }
    world.arm(Op::Probe, Fault::Stall(STALL));
    let health = world.impatient().probe(&tenant(), &issued.secret).await;
    assert_eq!(health, Health::Unknown);
    world.arm(Op::Probe, Fault::RateLimited(SOON));
    let health = world.provider().probe(&tenant(), &issued.secret).await;
    assert!(
        matches!(health, Health::Alive | Health::Unknown),
        "{health:?}"
    );
    assert_eq!(
        world.provider().probe(&tenant(), &issued.secret).await,
        Health::Alive
    );
}

/// Alive and Dead are what the vendor's books say.
pub async fn a_probe_tells_the_dead_from_the_living(world: &impl ProviderWorld) {
    let provider = world.provider();
    let issued = issue(&*provider, 1).await;
    assert_eq!(
        provider.probe(&tenant(), &issued.secret).await,
        Health::Alive
    );
    let never = Secret::new(b"sk-never-issued-0123456789".to_vec()).expect("fits");
    assert_eq!(provider.probe(&tenant(), &never).await, Health::Dead);
    provider
        .revoke(&tenant(), &issued.key_id)
        .await
        .expect("revoked");
    assert_eq!(
        provider.probe(&tenant(), &issued.secret).await,
        Health::Dead
    );
}

async fn is_denied_everywhere(provider: &dyn Provider, tenant: &TenantId, key: &ProviderKeyId) {
    let denied = End::Denied(Denial::Admin);
    assert_eq!(end(&provider.preflight(tenant).await), denied, "preflight");
    assert_eq!(end(&provider.list(tenant, "").await), denied, "list");
    let request = IssueRequest {
        tenant: tenant.clone(),
        ..request(2)
    };
    assert_eq!(end(&provider.issue(&request).await), denied, "issue");
    assert!(
        matches!(end(&provider.revoke(tenant, key).await), End::Denied(_)),
        "revoke"
    );
}

/// 401 and 403 for the admin credential are definite, and a person must act.
pub async fn a_refused_admin_credential_is_denied_everywhere(world: &impl ProviderWorld) {
    let issued = issue(&*world.provider(), 1).await;
    is_denied_everywhere(&*world.with_wrong_admin_key(), &tenant(), &issued.key_id).await;
    assert!(world.is_alive(&issued.key_id));
    assert_eq!(world.names_alive(&tenant()).len(), 1);
}

/// 404 for the project is definite, and never "the key is gone, so it is revoked".
pub async fn a_missing_project_is_denied_everywhere(world: &impl ProviderWorld) {
    let issued = issue(&*world.provider(), 1).await;
    is_denied_everywhere(&*world.provider(), &homeless(), &issued.key_id).await;
    assert!(world.is_alive(&issued.key_id));
}

/// A failure before the first byte is definite.
pub async fn nothing_is_sent_to_a_provider_that_cannot_be_reached(world: &impl ProviderWorld) {
    let issued = issue(&*world.provider(), 1).await;
    let provider = world.unreachable();
    let busy = |end: End| matches!(end, End::Busy(_));
    assert!(busy(end(&provider.issue(&request(2)).await)));
    assert!(busy(end(&provider.list(&tenant(), "").await)));
    assert!(busy(end(&provider.revoke(&tenant(), &issued.key_id).await)));
    assert_eq!(
        provider.probe(&tenant(), &issued.secret).await,
        Health::Unknown
    );
    assert!(world.is_alive(&issued.key_id));
}
