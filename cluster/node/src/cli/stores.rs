//! The options that choose stores. Addresses are options; passwords, tokens and secret ids come from
//! files or from the environment, and an address that holds one is refused.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use keybaton::buses::{
    REDIS_JOURNAL_PASSWORD_VARIABLE, REDIS_PASSWORD_VARIABLE, RedisPlace, RedisSettings,
};
use keybaton::postgres::PostgresSettings;
use keybaton::vault::{CredentialSource, Login, MOUNT_DEFAULT, PREFIX_DEFAULT, VaultSettings};
use keybaton::{AcceptedLoss, NodeBuilder, RedisJournalSettings, Secret};

/// Vault's own variables, which its command line reads too.
const VAULT_ADDRESS: &str = "VAULT_ADDR";
const VAULT_TOKEN: &str = "VAULT_TOKEN";

/// How an address of Redis begins.
const REDIS_SCHEMES: [&str; 3] = ["redis://", "rediss://", "unix://"];

/// Where a node keeps what.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Stores")]
pub struct StoreArgs {
    /// Records, tasks, checkpoints: redb (in the data directory), postgres://USER@HOST/DATABASE, or
    /// as best effort redis://HOST:PORT/DB
    // Not parsed by clap, whose errors would repeat an address that holds a password.
    #[arg(long, value_name = "redb|URL")]
    pub journal: Option<String>,

    /// The bytes of keys: embedded (in the data directory) or vault
    #[arg(long, value_name = "embedded|vault")]
    pub secrets: Option<String>,

    /// Events: local (in the process) or redis://HOST:PORT/DB, rediss://… for TLS
    #[arg(long, value_name = "local|URL")]
    pub bus: Option<String>,

    /// File with the password of Postgres; without it KEYBATON_POSTGRES_PASSWORD
    #[arg(long, value_name = "FILE")]
    pub postgres_password_file: Option<PathBuf>,

    /// Certificates (PEM) to trust for Postgres, instead of the system's
    #[arg(long, value_name = "FILE")]
    pub postgres_ca_file: Option<PathBuf>,

    /// User of Redis; see `keybaton redis acl --node`
    #[arg(long, value_name = "NAME")]
    pub redis_user: Option<String>,

    /// File with the password of Redis; without it KEYBATON_REDIS_PASSWORD
    #[arg(long, value_name = "FILE")]
    pub redis_password_file: Option<PathBuf>,

    /// Authorities (PEM) to trust for Redis, instead of the public ones
    #[arg(long, value_name = "FILE")]
    pub redis_ca_file: Option<PathBuf>,

    /// What a journal in Redis may lose: failover, or for trials crash; without it there is none
    #[arg(long, value_name = "failover|crash")]
    pub accepted_loss: Option<AcceptedLoss>,

    /// User of a journal in Redis; see `keybaton redis acl --journal`
    #[arg(long, value_name = "NAME")]
    pub redis_journal_user: Option<String>,

    /// File with that user's password; without it KEYBATON_REDIS_JOURNAL_PASSWORD
    #[arg(long, value_name = "FILE")]
    pub redis_journal_password_file: Option<PathBuf>,

    /// Replicas of Redis that must have a record on disk before it counts
    #[arg(long, value_name = "N")]
    pub redis_journal_replicas: Option<u8>,

    /// Where Vault is; without it VAULT_ADDR
    #[arg(long, value_name = "URL")]
    pub vault_address: Option<String>,

    /// File with a token of Vault; without it, and without a role, VAULT_TOKEN
    #[arg(long, value_name = "FILE", conflicts_with = "vault_role_id")]
    pub vault_token_file: Option<PathBuf>,

    /// Role id of AppRole, to log in to Vault instead of a token
    #[arg(long, value_name = "ID", requires = "vault_secret_id_file")]
    pub vault_role_id: Option<String>,

    /// File with the secret id of that role
    #[arg(long, value_name = "FILE", requires = "vault_role_id")]
    pub vault_secret_id_file: Option<PathBuf>,

    /// Where Vault's KV engine of version 2 is mounted
    #[arg(long, value_name = "PATH", default_value = MOUNT_DEFAULT)]
    pub vault_mount: String,

    /// What stands before `tenants/` in the mount; may be empty
    #[arg(long, value_name = "PATH", default_value = PREFIX_DEFAULT)]
    pub vault_prefix: String,

    /// Certificates (PEM) to trust for Vault, besides the system's
    #[arg(long, value_name = "FILE")]
    pub vault_ca_file: Option<PathBuf>,
}

fn is_postgres(url: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
}

impl StoreArgs {
    /// Tells the builder what was chosen.
    ///
    /// # Errors
    /// When an option cannot be used; the message says what to write instead, and never repeats an
    /// address.
    pub fn apply(&self, mut builder: NodeBuilder) -> anyhow::Result<NodeBuilder> {
        builder = match self.journal.as_deref() {
            None | Some("redb") => builder,
            Some("postgres") => bail!(
                "--journal postgres needs to know where: postgres://USER@HOST/DATABASE, or \
                 --servers start"
            ),
            Some("redis") => bail!(
                "--journal redis needs to know where: redis://HOST:PORT/DB, or --servers start"
            ),
            Some(url) if is_postgres(url) => builder.postgres(self.postgres(url)),
            Some(url) if REDIS_SCHEMES.iter().any(|scheme| url.starts_with(scheme)) => {
                builder.redis_journal(self.redis_journal(url)?)
            }
            Some(_) => {
                bail!("--journal takes redb, postgres://USER@HOST/DATABASE or redis://HOST:PORT/DB")
            }
        };
        if let Some(settings) = self.vault()? {
            builder = builder.vault(settings);
        }
        if let Some(settings) = self.redis()? {
            builder = builder.redis(settings);
        }
        Ok(builder)
    }

    /// How Postgres is reached, if the journal lies there.
    pub fn journal_in_postgres(&self) -> Option<PostgresSettings> {
        let url = self.journal.as_deref().filter(|url| is_postgres(url))?;
        Some(self.postgres(url))
    }

    fn postgres(&self, url: &str) -> PostgresSettings {
        let mut settings = PostgresSettings::new(url);
        settings.password_file.clone_from(&self.postgres_password_file);
        settings.ca_file.clone_from(&self.postgres_ca_file);
        settings
    }

    fn redis_journal(&self, url: &str) -> anyhow::Result<RedisJournalSettings> {
        let Some(accepted_loss) = self.accepted_loss else {
            bail!(
                "a journal in Redis is best effort: a failover of Redis may lose what it has \
                 acknowledged, and a key could be revoked while somebody holds it; accept that \
                 with --accepted-loss failover, or keep the journal in Postgres or in redb"
            );
        };
        let place = RedisPlace {
            url: url.to_owned(),
            user: self.redis_journal_user.clone(),
            password_file: self.redis_journal_password_file.clone(),
            authority_file: self.redis_ca_file.clone(),
        };
        let redis = place.settings(REDIS_JOURNAL_PASSWORD_VARIABLE).context("--journal")?;
        Ok(RedisJournalSettings {
            accepted_loss,
            replicas_min: self.redis_journal_replicas.unwrap_or_default(),
            ..RedisJournalSettings::new(redis)
        })
    }

    /// The settings of Redis, if it was chosen.
    ///
    /// # Errors
    /// As [`StoreArgs::apply`].
    pub fn redis(&self) -> anyhow::Result<Option<RedisSettings>> {
        let url = match self.bus.as_deref() {
            None | Some("local") => return Ok(None),
            Some("redis") => {
                bail!("--bus redis needs to know where: redis://HOST:PORT/DB, or --servers start")
            }
            Some(url) => url,
        };
        let place = RedisPlace {
            url: url.to_owned(),
            user: self.redis_user.clone(),
            password_file: self.redis_password_file.clone(),
            authority_file: self.redis_ca_file.clone(),
        };
        Ok(Some(place.settings(REDIS_PASSWORD_VARIABLE).context("--bus")?))
    }

    fn vault(&self) -> anyhow::Result<Option<VaultSettings>> {
        match self.secrets.as_deref() {
            None | Some("embedded") => return Ok(None),
            Some("vault") => {}
            Some(_) => bail!("--secrets takes embedded or vault; --vault-address says where it is"),
        }
        let address = match &self.vault_address {
            Some(address) => address.clone(),
            None => std::env::var(VAULT_ADDRESS).ok().with_context(|| {
                format!("--secrets vault needs --vault-address, {VAULT_ADDRESS} or --servers start")
            })?,
        };
        let mut settings = VaultSettings::new(&address, self.vault_login()?);
        settings.mount.clone_from(&self.vault_mount);
        settings.prefix.clone_from(&self.vault_prefix);
        settings.ca_file.clone_from(&self.vault_ca_file);
        Ok(Some(settings))
    }

    fn vault_login(&self) -> anyhow::Result<Login> {
        if let (Some(role_id), Some(file)) = (&self.vault_role_id, &self.vault_secret_id_file) {
            let secret_id = CredentialSource::File(file.clone());
            return Ok(Login::AppRole {
                mount: "approle".into(),
                role_id: role_id.clone(),
                secret_id,
            });
        }
        if let Some(file) = &self.vault_token_file {
            return Ok(Login::Token(CredentialSource::File(file.clone())));
        }
        let Some(token) = std::env::var_os(VAULT_TOKEN) else {
            bail!(
                "--secrets vault needs --vault-token-file, --vault-role-id with \
                 --vault-secret-id-file, or {VAULT_TOKEN}"
            );
        };
        let token = Secret::new(token.into_encoded_bytes())?;
        Ok(Login::Token(CredentialSource::Given(token)))
    }

    /// The options that name the same stores again.
    pub fn flags(&self) -> String {
        let default = |text: &String, default: &str| (text != default).then(|| text.clone());
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let given = [
            ("journal", self.journal.clone()),
            ("postgres-password-file", path(&self.postgres_password_file)),
            ("postgres-ca-file", path(&self.postgres_ca_file)),
            ("secrets", self.secrets.clone()),
            ("vault-address", self.vault_address.clone()),
            ("vault-token-file", path(&self.vault_token_file)),
            ("vault-role-id", self.vault_role_id.clone()),
            ("vault-secret-id-file", path(&self.vault_secret_id_file)),
            ("vault-mount", default(&self.vault_mount, MOUNT_DEFAULT)),
            ("vault-prefix", default(&self.vault_prefix, PREFIX_DEFAULT)),
            ("vault-ca-file", path(&self.vault_ca_file)),
            ("bus", self.bus.clone()),
            ("redis-user", self.redis_user.clone()),
            ("redis-password-file", path(&self.redis_password_file)),
            ("redis-ca-file", path(&self.redis_ca_file)),
            ("accepted-loss", self.accepted_loss.map(|loss| loss.as_str().to_owned())),
            ("redis-journal-user", self.redis_journal_user.clone()),
            ("redis-journal-password-file", path(&self.redis_journal_password_file)),
            ("redis-journal-replicas", self.redis_journal_replicas.map(|n| n.to_string())),
        ];
        given
            .into_iter()
            .filter_map(|(name, value)| Some(format!(" --{name} {}", value?)))
            .collect()
    }
}
