//! `keybaton redis acl`: who may do what in Redis, as lines for its access control list.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use keybaton::buses::{REDIS_REPLAY_LINE, RedisUser, redis_password_file};
use keybaton::messages::TenantId;

/// What is prepared for Redis.
#[derive(Subcommand)]
pub enum RedisCommand {
    /// Print a user's line for the access control list of a Redis 7 or Valkey
    #[command(after_long_help = "\
Examples:
  keybaton redis acl --node --password-file /etc/keybaton/redis-password >> users.acl
  keybaton redis acl --tenant acme --password-file acme-password >> users.acl
  keybaton redis acl --journal --password-file /etc/keybaton/redis-journal-password

The node publishes for every tenant. A tenant's user reads its own events and pairs, and nothing
else. A journal has a user of its own, and needs a second line in place of the one for the user
default: without it Redis would leave out records when it starts again. A line holds the hash of the password, never the password.")]
    Acl(AclArgs),
}

/// Whose line.
#[derive(Args)]
pub struct AclArgs {
    /// The user of a tenant
    #[arg(
        long,
        required_unless_present_any = ["node", "journal"],
        conflicts_with_all = ["node", "journal"]
    )]
    tenant: Option<TenantId>,

    /// The user of the node, for events
    #[arg(long, conflicts_with = "journal")]
    node: bool,

    /// The user of the node, for its journal
    #[arg(long)]
    journal: bool,

    /// With --journal: the server is a Redis 7.2 or newer, or a Valkey
    #[arg(long, requires = "journal")]
    waitaof: bool,

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
    let user = match &args.tenant {
        Some(tenant) => RedisUser::Tenant(tenant),
        None if args.journal => RedisUser::Journal,
        None => RedisUser::Node,
    };
    let password = args.password_file.as_deref().map(redis_password_file).transpose()?;
    let mut out = std::io::stdout().lock();
    let confirms = if args.waitaof { " +waitaof" } else { "" };
    writeln!(out, "{}{confirms}", user.acl_line(password.as_ref()))?;
    if args.journal {
        writeln!(out, "{REDIS_REPLAY_LINE}")?;
        let hint = "put the second line in place of the one for the user default";
        writeln!(std::io::stderr().lock(), "keybaton: {hint}")?;
    }
    if password.is_none() {
        let hint = "the user is off until it has a password: add --password-file";
        writeln!(std::io::stderr().lock(), "keybaton: {hint}")?;
    }
    Ok(ExitCode::SUCCESS)
}
