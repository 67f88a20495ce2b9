//! Event buses.

mod local;
pub(crate) mod redis;

pub use local::LocalBus;
pub use redis::{
    Delivery, GroupMember, REDIS_JOURNAL_PASSWORD_VARIABLE, REDIS_PASSWORD_VARIABLE,
    REDIS_REPLAY_LINE, RedisBus, RedisPlace, RedisSettings, RedisSettingsError, RedisUser,
    redis_password_file,
};
