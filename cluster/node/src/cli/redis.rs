//! `keybaton redis acl`: who may do what in Redis, as lines for its access control list.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use keybaton::buses::{RedisUser, redis_password_file};
use keybaton::messages::TenantId;

/// What is prepared for Redis.
#[derive(Subcommand)]
pub enum RedisCommand {
    /// Print a user's line for the access control list of a Redis 7 or Valkey
    #[command(after_long_help = "\
Examples:
  keybaton redis acl --node --password-file /etc/keybaton/redis-password >> users.acl
  keybaton redis acl --tenant acme --password-file acme-password >> users.acl

The node publishes for every tenant. A tenant's user reads its own events and pairs, and nothing
else. The line holds the hash of the password, never the password.")]
    Acl(AclArgs),
}

/// Whose line.
#[derive(Args)]
pub struct AclArgs {
    /// The user of a tenant
    #[arg(long, required_unless_present = "node", conflicts_with = "node")]
    tenant: Option<TenantId>,

    /// The user of the node
    #[arg(long)]
    node: bool,

    /// File with the user's password, mode 0400; without it the user is off
    #[arg(long)]
    password_file: Option<PathBuf>,
}

/// Prints the line.
///
/// # Errors
/// When the password file cannot be used; the message says what to do next.
pub fn run(command: RedisCommand) -> anyhow::Result<ExitCode> {
    let RedisCommand::Acl(args) = command;
    let user = args.tenant.as_ref().map_or(RedisUser::Node, RedisUser::Tenant);
    let password = args.password_file.as_deref().map(redis_password_file).transpose()?;
    writeln!(std::io::stdout().lock(), "{}", user.acl_line(password.as_ref()))?;
    if password.is_none() {
        let hint = "the user is off until it has a password: add --password-file";
        writeln!(std::io::stderr().lock(), "keybaton: {hint}")?;
    }
    Ok(ExitCode::SUCCESS)
}
