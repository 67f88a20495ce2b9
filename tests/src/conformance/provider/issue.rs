//! Issuing: at most one key, and the truth about whether there is one.

use std::sync::Arc;
use std::time::Duration;

use keybaton_messages::ProviderKeyId;
use keybaton_ports::{Denial, IssueRequest};
use keybaton_rotation::Health;
use keybaton_simulator::{Fault, Op};

use super::{
    EVENTUALLY, End, ProviderWorld, SOON, STALL, end, issue, label, prefix, request, tenant, until,
};

/// An issued key authenticates, has the asked lifetime and stands in the listing under its label.
pub async fn an_issued_key_is_alive_listed_and_named_by_its_label(world: &impl ProviderWorld) {
    let provider = world.provider();
    let lifetime = provider.capabilities().lifetime.then_some(Duration::from_secs(3600));
    let issued = provider.issue(&IssueRequest { lifetime, ..request(1) }).await.expect("issued");
    assert_eq!(issued.expires_at.is_some(), lifetime.is_some());
    assert!(world.is_alive(&issued.key_id));
    assert_eq!(world.names_alive(&tenant()), [label(1).as_str()]);
    assert_eq!(provider.probe(&tenant(), &issued.secret).await, Health::Alive);

    let listed = provider.list(&tenant(), &prefix()).await.expect("listed");
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].key_id, listed[0].name.as_str()), (&issued.key_id, label(1).as_str()));
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
        assert_eq!(world.names_alive(&tenant()).contains(&name), born, "{fault}");
        // What was born without an answer is found by its label, so that it can be revoked.
        let listed = world.provider().list(&tenant(), label(version).as_str()).await;
        for orphan in listed.expect("listed") {
            assert!(born, "{fault}");
            world.provider().revoke(&tenant(), &orphan.key_id).await.expect("revoked");
        }
        assert!(!world.names_alive(&tenant()).contains(&name), "{fault}");
    }
}

/// Unknown is honest: the key of a call that got no answer may be born afterwards.
pub async fn an_issue_that_is_cut_short_may_happen_later(world: &impl ProviderWorld) {
    world.arm(Op::Issue, Fault::Late(SOON));
    let issued = world.provider().issue(&request(1)).await;
    assert_eq!(end(&issued), End::Unknown);
    until("born late", || world.names_alive(&tenant()) == [label(1).as_str()]).await;
    let listed = world.provider().list(&tenant(), &prefix()).await.expect("listed");
    assert_eq!(listed.len(), 1);
}

/// A secret that opens nothing looks like any other until it is probed.
pub async fn a_bad_key_is_found_by_its_probe(world: &impl ProviderWorld) {
    world.arm(Op::Issue, Fault::BadKey);
    let issued = issue(&*world.provider(), 1).await;
    assert_eq!(world.provider().probe(&tenant(), &issued.secret).await, Health::Dead);
    assert!(world.is_alive(&issued.key_id), "the real key has to be revoked all the same");
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
    assert_eq!(world.provider().probe(&tenant(), &issued.secret).await, Health::Alive);
    let looking = async {
        loop {
            let listed = world.provider().list(&tenant(), &prefix()).await.expect("listed");
            if let [key] = &listed[..] {
                break key.key_id.clone();
            }
        }
    };
    let found = tokio::time::timeout(EVENTUALLY, looking).await.expect("listed in the end");
    assert_eq!(found, issued.key_id);
}

/// Where issuing voids, the answer is about the key that lives.
pub async fn a_key_that_voids_the_older_ones_leaves_itself_alive(world: &impl ProviderWorld) {
    let first = issue(&*world.provider(), 1).await;
    world.arm(Op::Issue, Fault::VoidOnIssue);
    let second = issue(&*world.provider(), 2).await;
    let provider = world.provider();
    assert_eq!(provider.probe(&tenant(), &first.secret).await, Health::Dead);
    assert_eq!(provider.probe(&tenant(), &second.secret).await, Health::Alive);
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
    let asked: Vec<String> = (1..=ISSUES).map(|version| label(version).to_string()).collect();
    assert_eq!(names, asked);
    for (no, key) in issued.iter().enumerate() {
        assert!(issued[..no].iter().all(|other| other.key_id != key.key_id));
        assert!(issued[..no].iter().all(|other| !other.secret.is_same(&key.secret)));
    }
}
