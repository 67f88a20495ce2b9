//! Types that hold secret bytes cannot be printed, copied, compared or written; the compiler says
//! so. What is printed by hand-written code is listed, so that a new one is looked at.

use std::fmt::{Debug, Display};
use std::path::Path;

use keybaton::{CallLease, CredentialHandle, SessionLease};
use keybaton_adapters::Embedded;
use keybaton_adapters::providers::{OpenAi, OpenRouter, ProviderSettings};
use keybaton_adapters::secrets::vault::{CredentialSource, Login, VaultSecrets, VaultSettings};
use keybaton_adapters::store::MasterKey;
use keybaton_ports::{AuditKey, FingerprintKey, IssuedKey, Secret, StoredSecret};
use serde::Serialize;

/// Does not compile when one of the types has one of the traits: then the trait's own choice and
/// the one for all types are two, and the compiler cannot choose.
macro_rules! has_none_of {
    ($type:ty: $($trait:path),+) => {
        const _: () = {
            trait Ambiguous<A> {
                fn chosen() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            $({
                struct Has;
                impl<T: ?Sized + $trait> Ambiguous<Has> for T {}
            })+
            let _ = <$type as Ambiguous<_>>::chosen;
        };
    };
}

has_none_of!(Secret: Debug, Display, Clone, Serialize, PartialEq);
has_none_of!(StoredSecret: Debug, Display, Clone, Serialize, PartialEq);
has_none_of!(IssuedKey: Debug, Display, Clone, Serialize, PartialEq);
has_none_of!(FingerprintKey: Debug, Display, Clone, Serialize, PartialEq);
has_none_of!(AuditKey: Debug, Display, Clone, Serialize, PartialEq);
has_none_of!(MasterKey: Debug, Display, Clone, Serialize, PartialEq);
has_none_of!(ProviderSettings: Debug, Display, Clone, Serialize, PartialEq);
has_none_of!(OpenAi: Debug, Display, Clone, Serialize);
has_none_of!(OpenRouter: Debug, Display, Clone, Serialize);
has_none_of!(VaultSecrets: Debug, Display, Clone, Serialize);
has_none_of!(VaultSettings: Debug, Display, Clone, Serialize, PartialEq);
has_none_of!(Login: Debug, Display, Clone, Serialize, PartialEq);
has_none_of!(CredentialSource: Debug, Display, Clone, Serialize, PartialEq);
has_none_of!(Embedded: Debug, Display, Clone, Serialize);
has_none_of!(CallLease: Debug, Display, Clone, Serialize);
has_none_of!(SessionLease: Debug, Display, Clone, Serialize);
has_none_of!(CredentialHandle: Debug, Display, Serialize);

/// Every `Debug` that is written by hand, by file and type. A derived one cannot print a secret,
/// since the types above have none; one of these could, so each was read.
const BY_HAND: [(&str, &str); 13] = [
    ("actors/ports/src/secrets.rs", "Generation"),
    ("actors/registry/src/member.rs", "$lease<$($life,)? N>"),
    ("actors/registry/src/member.rs", "Member<N>"),
    ("adapters/src/store/backend.rs", "Watched"),
    ("messages/src/ids.rs", "$name"),
    ("messages/src/ids.rs", "$name"),
    ("messages/src/ids.rs", "$name"),
    ("messages/src/ids.rs", "PairId"),
    ("messages/src/ids.rs", "RotationId"),
    ("messages/src/ids.rs", "TaskKey"),
    ("messages/src/label.rs", "$name"),
    ("messages/src/label.rs", "Label"),
    ("messages/src/time.rs", "Timestamp"),
];

fn by_hand(folder: &Path, root: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            by_hand(&path, root, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source");
        for line in text.lines().filter(|line| line.trim_start().starts_with("impl")) {
            if let Some((_, name)) = line.split_once("Debug for ") {
                let file = path.strip_prefix(root).expect("below the root").display().to_string();
                found.push((file, name.trim_end_matches('{').trim().to_owned()));
            }
        }
    }
}

#[test]
fn every_debug_that_is_written_by_hand_is_known() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let mut found = Vec::new();
    for folder in [
        "messages/src",
        "actors/src",
        "actors/ports/src",
        "actors/rotation/src",
        "actors/registry/src",
        "adapters/src",
        "cluster/node/src",
    ] {
        by_hand(&root.join(folder), root, &mut found);
    }
    found.sort();
    let known: Vec<_> =
        BY_HAND.iter().map(|(file, name)| ((*file).to_owned(), (*name).to_owned())).collect();
    assert_eq!(found, known, "read the new one, and add it here if it prints no secret");
}
