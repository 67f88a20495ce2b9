//! Who may do what in Redis: lines for its access control list.
//!
//! Commands are listed one by one, none by category: key patterns do not cover `SCAN` and
//! `RANDOMKEY`, which are both in `@read`, so a user with `+@read` sees the names of every tenant.
//!
//! **Invariant:** no line holds a password; at most its SHA-256, which Redis accepts instead.

use data_encoding::HEXLOWER;
use keybaton_messages::TenantId;
use keybaton_ports::Secret;
use sha2::{Digest, Sha256};

use super::entry::{pairs_key, stream_key};

/// Whose line it is.
#[derive(Clone, Copy, Debug)]
pub enum RedisUser<'a> {
    /// The node's: publishes for every tenant and reads every tenant.
    Node,
    /// A tenant's: reads its own events and the newest event of its own pairs. Cannot publish.
    Tenant(&'a TenantId),
    /// The node's for its journal, apart from the bus: reaches nothing else, and nobody else's user
    /// reaches it. Where the server has `WAITAOF` (Redis 7.2, Valkey), ` +waitaof` has to follow;
    /// older ones do not take a line with a command that they do not know.
    Journal,
}

/// What both may do: sign in, choose a database, wait for events, work through them in a group.
const READS: &str = "+ping +select +xread +xreadgroup +xack +xautoclaim +xgroup|create +xrange \
                     +xrevrange +xlen +xpending +hget +hgetall";

/// What publishing takes besides.
const PUBLISHES: &str = "+eval +xadd +hset +expire";

/// The line that a server with a journal needs for the user `default`. While the server reads its
/// file again it acts as that user, and leaves out transactions with commands that this user may
/// not do. Nobody can sign in as it.
pub const REDIS_REPLAY_LINE: &str = "user default off resetpass resetkeys resetchannels \
                                     ~keybaton:* -@all +hset +hdel +hincrby +unlink";

/// What keeping a journal takes: two scripts, what they do, reads that belong to one moment, and a
/// look at how durable the server is.
const KEEPS: &str = "+ping +select +info +config|get +acl|dryrun +multi +exec +script|load +eval +evalsha \
                     +time +hget +hmget +hgetall +hkeys +hexists +hlen +hset +hdel +hincrby +unlink";

impl RedisUser<'_> {
    /// The user's name. Tenants' names have no dots, so none is called like the node's.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Node => "keybaton".to_owned(),
            Self::Tenant(tenant) => stream_key(tenant),
            Self::Journal => "keybaton-journal".to_owned(),
        }
    }

    /// The line for the `aclfile`. Without a password the user is off, so that a line that was
    /// pasted too early opens nothing.
    #[must_use]
    pub fn acl_line(self, password: Option<&Secret>) -> String {
        let access = password.map_or_else(
            || "off".to_owned(),
            |password| format!("on #{}", HEXLOWER.encode(&Sha256::digest(password.expose()))),
        );
        let may = match self {
            Self::Node => format!("~kb.* -@all {READS} {PUBLISHES}"),
            // A group keeps its place in the stream, which is a write; the commands above change
            // nothing else of it.
            Self::Tenant(tenant) => {
                let (stream, pairs) = (stream_key(tenant), pairs_key(tenant));
                format!("%RW~{stream} %R~{pairs} -@all {READS}")
            }
            Self::Journal => format!("~keybaton:* -@all {KEEPS}"),
        };
        format!("user {} {access} resetkeys resetchannels {may}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_the_hash_of_a_password_and_is_off_without_one() {
        let tenant: TenantId = "acme".parse().expect("a name");
        let secret = Secret::new(b"hunter2".to_vec()).expect("a password");
        let line = RedisUser::Tenant(&tenant).acl_line(Some(&secret));
        // sha256sum of "hunter2".
        let hash = "f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7";
        assert!(line.starts_with(&format!("user kb.acme on #{hash} resetkeys ")), "{line}");
        assert!(!line.contains("hunter2"));
        assert!(RedisUser::Node.acl_line(None).starts_with("user keybaton off resetkeys "));
    }

    #[test]
    fn no_line_permits_a_category_or_a_command_that_sees_other_tenants() {
        let tenant: TenantId = "acme".parse().expect("a name");
        for user in [RedisUser::Node, RedisUser::Tenant(&tenant), RedisUser::Journal] {
            let line = user.acl_line(None);
            assert!(!line.contains("+@"), "{line}");
            for word in ["scan", "randomkey", "keys ", "dbsize", "config ", "debug", "monitor"] {
                assert!(!line.contains(&format!("+{word}")), "{line}");
            }
        }
        let line = RedisUser::Tenant(&tenant).acl_line(None);
        assert!(!line.contains("+xadd") && !line.contains("+eval"), "{line}");
        assert!(!line.contains('*'), "a tenant's keys are named, not matched: {line}");
    }
}
