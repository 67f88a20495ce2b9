//! Event buses.

mod local;
pub(crate) mod redis;

pub use local::LocalBus;
pub use redis::{
    Delivery, GroupMember, RedisBus, RedisSettings, RedisSettingsError, RedisUser,
    redis_password_file, redis_password_from_environment,
};
