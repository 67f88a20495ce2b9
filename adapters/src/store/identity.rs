//! Who a store is that others can write to as well: its id, its deployment, and proof that the
//! master key fits.

use keybaton_messages::DeploymentId;
use keybaton_ports::Entropy;
use serde::{Deserialize, Serialize};

use crate::store::{Broken, MasterKey, Place, Sealer, SystemEntropy, Whose};

const IDENTITY_SCHEMA: u16 = 1;
const PLACE: Place<'static> =
    Place { table: "meta", key: b"identity", clear: &[], schema: IDENTITY_SCHEMA };

/// Sealed: opens only with the right master key.
#[derive(Serialize, Deserialize)]
struct Sealed {
    deployment: DeploymentId,
}

/// A store that is to be founded. Only one of several that try at once is.
pub(crate) struct Founding {
    pub(crate) store_id: [u8; 16],
    pub(crate) sealer: Sealer,
    pub(crate) deployment: DeploymentId,
    /// What proves the master key later.
    pub(crate) sealed: Vec<u8>,
}

impl Founding {
    pub(crate) fn new(master: MasterKey) -> Self {
        let store_id = SystemEntropy.bytes16();
        let deployment = DeploymentId::from_digest(&SystemEntropy.bytes16());
        let sealer = Sealer::new(master, store_id);
        let sealed = sealer
            .seal_value(Whose::Store, &PLACE, &Sealed { deployment: deployment.clone() })
            .expect("a deployment id is short");
        Self { store_id, sealer, deployment, sealed }
    }
}

/// Opens the store with this id.
///
/// # Errors
/// [`Broken::Key`] under another master key; otherwise what is wrong with the bytes.
pub(crate) fn recognise(
    master: MasterKey,
    store_id: [u8; 16],
    sealed: &[u8],
) -> Result<(Sealer, DeploymentId), Broken> {
    let sealer = Sealer::new(master, store_id);
    let sealed: Sealed = sealer.open_value(Whose::Store, &PLACE, sealed)?;
    Ok((sealer, sealed.deployment))
}
