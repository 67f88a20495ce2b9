//! Revoking: `Ok` only of what is gone, and only of what is the tenant's.

use std::time::Duration;

use keybaton_ports::Denial;
use keybaton_rotation::Health;
use keybaton_simulator::{Fault, Op};

use super::{End, ProviderWorld, SOON, STALL, end, issue, neighbour, prefix, tenant, until};

/// Revoking one that is gone succeeds, and touches no other.
pub async fn a_revoked_key_is_dead_and_unlisted_and_may_be_revoked_again(
    world: &impl ProviderWorld,
) {
    let provider = world.provider();
    let (first, second) = (issue(&*provider, 1).await, issue(&*provider, 2).await);
    for _ in 0..2 {
        provider.revoke(&tenant(), &first.key_id).await.expect("revoked");
        assert!(!world.is_alive(&first.key_id));
        assert_eq!(provider.probe(&tenant(), &first.secret).await, Health::Dead);
        let listed = provider.list(&tenant(), &prefix()).await.expect("listed");
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].key_id, second.key_id);
    }
    assert_eq!(provider.probe(&tenant(), &second.secret).await, Health::Alive);
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
            None => assert!(matches!(revoked, End::Done | End::Unknown), "{fault} {revoked:?}"),
        }
        if revoked == End::Done {
            assert!(!world.is_alive(&issued.key_id), "{fault}");
        }
        world.provider().revoke(&tenant(), &issued.key_id).await.expect("revoked");
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
        world.provider().revoke(&tenant(), &issued.key_id).await.expect("revoked");
    }
}

/// Some vendors' keys live on for a while; who must be sure of the death asks by probe.
pub async fn a_slow_death_is_confirmed_when_the_key_is_unlisted(world: &impl ProviderWorld) {
    let issued = issue(&*world.provider(), 1).await;
    world.arm(Op::Revoke, Fault::SlowRevoke(SOON));
    world.provider().revoke(&tenant(), &issued.key_id).await.expect("revoked");
    until("dead in the end", || !world.is_alive(&issued.key_id)).await;
    assert_eq!(world.provider().probe(&tenant(), &issued.secret).await, Health::Dead);
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
