//! The process is killed, frozen or refused by its disk at every named point of its work.
