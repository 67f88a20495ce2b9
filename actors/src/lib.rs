//! Who owns what: the actors of one node.
//!
//! | actor | one per | owns |
//! |---|---|---|
//! | [`supervisor::Supervisor`] | node | the others; restarts with back-off |
//! | [`tenant_supervisor::TenantSupervisor`] | tenant | that tenant's pairs and tasks |
//! | [`rotation_actor::RotationActor`] | pair | one pair record |
//! | [`task_actor::TaskActor`] | task | a program, a step at a time |
//! | [`broker_actor::BrokerActor`] | node | opening, closing and returning grants |
//! | [`scheduler::Scheduler`] | node | when pairs are due |
//! | [`sweeper::Sweeper`] | node | the pace of looking for burned labels |
//! | [`audit_shipper::AuditShipper`] | node | shipping sealed audit records |
//! | [`checkpoint_sweeper::CheckpointSweeper`] | node | deleting checkpoints that nobody needs |
//!
//! What must outlive an actor (registry, secrets in memory, fence word, task table) belongs to
//! [`shared::Shared`].
//!
//! **Invariant:** actors decide nothing about rotations; `keybaton_rotation::step` does.
//! **Invariant:** any actor may be killed at any moment, and starting it again is recovery.

pub mod audit_shipper;
pub mod broker;
pub mod broker_actor;
pub mod checkpoint_sweeper;
pub mod credential;
pub mod fence;
pub mod gauges;
mod issue_jobs;
mod jobs;
pub mod limits;
pub mod program;
pub mod rests;
pub mod rotation_actor;
pub mod scheduler;
pub mod shared;
pub mod stats;
pub mod supervisor;
pub mod sweeper;
pub mod task_actor;
pub mod task_table;
mod telemetry;
pub mod tenant_supervisor;
pub mod view;
