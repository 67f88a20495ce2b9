//! The way of every call with the admin key: who asks, what strikes, what is done, what is said.
//!
//! **Invariant:** a call leaves one `admin_call` line whatever happens to it, unless its caller
//! is gone while it stalls; the line is on disk before the answer leaves.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::Response;
use serde_json::Value;

use crate::fault::{Fault, Op};
use crate::http::answer::{self, Answer, HangUp};
use crate::http::bearer;
use crate::issue::{Refusal, Style};
use crate::ledger::Call;
use crate::secret::Digest;
use crate::state::{Site, State};

/// Who calls, on which connection.
pub(crate) struct Caller {
    pub(crate) site: Arc<Site>,
    pub(crate) hang_up: HangUp,
    bearer: Option<Digest>,
}

impl FromRequestParts<Arc<Site>> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        site: &Arc<Site>,
    ) -> Result<Self, Self::Rejection> {
        let hang_up = parts.extensions.get::<HangUp>().cloned().unwrap_or_default();
        Ok(Self { site: Arc::clone(site), hang_up, bearer: bearer(&parts.headers) })
    }
}

impl Caller {
    /// Whether the caller has the admin key.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if self.bearer == Some(self.site.config.admin_key.digest()) {
            return Ok(());
        }
        let is_tenant =
            self.bearer.is_some_and(|it| self.site.lock().keys.by_digest(&it).is_some());
        Err(if is_tenant {
            let message = "You have insufficient permissions: this endpoint needs the admin key.";
            Refusal::new(403, "missing_scope", message)
        } else {
            Refusal::new(401, "invalid_api_key", "Incorrect API key provided.")
        })
    }
}

/// What is asked for.
pub(crate) struct Order {
    pub(crate) style: Style,
    pub(crate) call: Call,
    /// What a script must name to strike it; none when no script can.
    pub(crate) op: Option<Op>,
    pub(crate) project: String,
    pub(crate) key_id: Option<String>,
}

/// What was done.
pub(crate) struct Done {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) key_id: Option<String>,
}

/// Carries the order out with `execute`, which runs under the lock, once or never.
pub(crate) async fn carry_out(
    caller: Caller,
    order: Order,
    execute: impl FnOnce(&mut State, Option<Fault>) -> Result<Done, Refusal> + Send + 'static,
) -> Response {
    let Caller { site, hang_up, .. } = &caller;
    let record = |state: &mut State, fault, status| {
        state.record_call(order.call, &order.project, order.key_id.clone(), fault, status);
    };
    if let Err(refusal) = caller.check() {
        record(&mut site.lock(), None, refusal.status);
        return answer::refuse(order.style, &refusal);
    }
    let fault = order.op.and_then(|op| site.lock().armed.strike(op, Some(&order.project)));
    match fault {
        Some(Fault::Late(delay)) => {
            record(&mut site.lock(), fault, 0);
            site.lock().after(delay, move |state| {
                if let Err(refusal) = execute(state, fault) {
                    tracing::warn!(?refusal, "a late call was refused");
                }
                state.ledger.flush();
            });
            match hang_up.clone().now().await {}
        }
        Some(Fault::Stall(delay)) => tokio::time::sleep(delay).await,
        Some(early) if early.is_before_execution() => {
            let Some((status, response)) = answer::turn_away(order.style, early) else {
                record(&mut site.lock(), fault, 0);
                match hang_up.clone().now().await {}
            };
            record(&mut site.lock(), fault, status);
            return response;
        }
        _ => {}
    }
    match execute_recorded(site, &order, fault, execute) {
        Ok(done) => {
            let answer = Answer { status: done.status, body: done.body };
            answer::deliver(fault, caller.hang_up, answer).await
        }
        Err(refusal) => answer::refuse(order.style, &refusal),
    }
}

fn execute_recorded(
    site: &Site,
    order: &Order,
    fault: Option<Fault>,
    execute: impl FnOnce(&mut State, Option<Fault>) -> Result<Done, Refusal>,
) -> Result<Done, Refusal> {
    let mut state = site.lock();
    let done = execute(&mut state, fault);
    let (status, key_id) = match &done {
        Ok(done) => (done.status, done.key_id.clone()),
        Err(refusal) => (refusal.status, None),
    };
    let key_id = key_id.or_else(|| order.key_id.clone());
    state.record_call(order.call, &order.project, key_id, fault, status);
    if state.ledger.is_broken() {
        return Err(Refusal::ledger());
    }
    done
}
