//! `keybaton vault policy`: what a tenant's broker and rotator must be allowed to do in Vault.

use std::io::Write;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use keybaton_adapters::secrets::vault::{MOUNT_DEFAULT, PREFIX_DEFAULT, Place, Role, policy_name};
use keybaton_messages::TenantId;

/// What can be asked about secrets in Vault.
#[derive(Subcommand)]
pub enum VaultCommand {
    /// Print the policies that a tenant's broker and rotator need; everything else stays refused
    #[command(after_long_help = "\
Examples:
  keybaton vault policy --tenant acme
  keybaton vault policy --tenant acme --role rotator | vault policy write keybaton-rotator-acme -")]
    Policy {
        /// Whose keys; may be given more than once
        #[arg(long, required = true)]
        tenant: Vec<TenantId>,
        /// Only this one, for example to pipe it into `vault policy write NAME -`
        #[arg(long, value_enum)]
        role: Option<RoleName>,
        /// Where the KV engine of version 2 is mounted
        #[arg(long, default_value = MOUNT_DEFAULT)]
        mount: String,
        /// What stands before `tenants/` in the mount; may be empty
        #[arg(long, default_value = PREFIX_DEFAULT)]
        prefix: String,
    },
}

/// Who works on a tenant's secrets.
#[derive(Clone, Copy, ValueEnum)]
pub enum RoleName {
    /// Hands keys out
    Broker,
    /// Replaces keys
    Rotator,
}

/// Prints the policies.
///
/// # Errors
/// When mount or prefix cannot stand in a path.
pub fn run(command: VaultCommand) -> anyhow::Result<ExitCode> {
    let VaultCommand::Policy { tenant: tenants, role, mount, prefix } = command;
    let place = Place::new(&mount, &prefix)?;
    let roles: &[Role] = match role {
        None => &[Role::Broker, Role::Rotator],
        Some(RoleName::Broker) => &[Role::Broker],
        Some(RoleName::Rotator) => &[Role::Rotator],
    };
    let mut out = std::io::stdout().lock();
    for tenant in &tenants {
        for &role in roles {
            writeln!(out, "# vault policy write {} -", policy_name(tenant, role))?;
            writeln!(out, "{}", place.policy(tenant, role))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
