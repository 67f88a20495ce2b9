//! Looking changes nothing: listings, preflights and probes; and who is not let in.

use std::collections::BTreeSet;
use std::time::Duration;

use keybaton_messages::{ProviderKeyId, TenantId};
use keybaton_ports::{Denial, IssueRequest, Provider, Secret};
use keybaton_rotation::Health;
use keybaton_simulator::{Fault, Op};

use super::{
    End, ProviderWorld, SOON, STALL, end, homeless, issue, label, neighbour, prefix, request,
    tenant,
};

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
    let planted: BTreeSet<String> = (1..=KEYS).map(|version| label(version).to_string()).collect();
    assert!(listed == planted, "{} names instead of {}", listed.len(), planted.len());
    assert_eq!(ours.len(), planted.len());
    let all = provider.list(&tenant(), "").await.expect("listed");
    assert_eq!(all.len(), planted.len() + 1);
    let one = provider.list(&tenant(), label(17).as_str()).await.expect("listed");
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
    provider.revoke(&tenant(), &first.key_id).await.expect("revoked");
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
    assert_eq!(end(&world.impatient().list(&tenant(), "").await), End::Unknown);
    assert_eq!(world.provider().list(&tenant(), "").await.expect("listed").len(), 1);
}

/// Asking whether an issue can succeed is no issue.
pub async fn preflight_changes_nothing_and_ends_like_a_listing(world: &impl ProviderWorld) {
    let provider = world.provider();
    provider.preflight(&tenant()).await.expect("ready");
    for (fault, expected) in read_faults() {
        world.arm(Op::List, fault);
        assert_eq!(end(&provider.preflight(&tenant()).await), expected, "{fault}");
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
    assert!(matches!(health, Health::Alive | Health::Unknown), "{health:?}");
    assert_eq!(world.provider().probe(&tenant(), &issued.secret).await, Health::Alive);
}

/// Alive and Dead are what the vendor's books say.
pub async fn a_probe_tells_the_dead_from_the_living(world: &impl ProviderWorld) {
    let provider = world.provider();
    let issued = issue(&*provider, 1).await;
    assert_eq!(provider.probe(&tenant(), &issued.secret).await, Health::Alive);
    let never = Secret::new(b"sk-never-issued-0123456789".to_vec()).expect("fits");
    assert_eq!(provider.probe(&tenant(), &never).await, Health::Dead);
    provider.revoke(&tenant(), &issued.key_id).await.expect("revoked");
    assert_eq!(provider.probe(&tenant(), &issued.secret).await, Health::Dead);
}

async fn is_denied_everywhere(provider: &dyn Provider, tenant: &TenantId, key: &ProviderKeyId) {
    let denied = End::Denied(Denial::Admin);
    assert_eq!(end(&provider.preflight(tenant).await), denied, "preflight");
    assert_eq!(end(&provider.list(tenant, "").await), denied, "list");
    let request = IssueRequest { tenant: tenant.clone(), ..request(2) };
    assert_eq!(end(&provider.issue(&request).await), denied, "issue");
    assert!(matches!(end(&provider.revoke(tenant, key).await), End::Denied(_)), "revoke");
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
    assert_eq!(provider.probe(&tenant(), &issued.secret).await, Health::Unknown);
    assert!(world.is_alive(&issued.key_id));
}
