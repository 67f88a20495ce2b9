//! A model vendor to hand keys over against: tests, the demo and benchmarks rotate its keys.
//!
//! It serves, over real HTTP, the admin API of OpenAI (projects, service accounts and their
//! keys) and of OpenRouter (keys), an inference API that the keys open (`/v1/models`,
//! `/v1/chat/completions` with streams, `/v1/tools/{name}` with side effects), and it goes wrong
//! on request. What really happened stands in its [`ledger`]. It depends on no other crate of
//! ours, so that its word is independent of the system that it judges.
//!
//! It reads a request strictly: a key that dies takes its open requests and streams along, and a
//! tool that is asked twice happens twice.
//!
//! ```
//! # async fn demo(dir: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! use keybaton_simulator::{Class, Simulator};
//!
//! let simulator = Simulator::builder()
//!     .dir(dir)
//!     .class(Class::A)
//!     .fault("issue@tenant-a:1=ack-lost".parse()?)
//!     .start()
//!     .await?;
//! println!("{} {}", simulator.base_url(), simulator.ledger_path().display());
//! simulator.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Scripts
//!
//! `<op>[@<project>]:<n>[x<times>]=<fault>[:<millis>]`: the `n`-th matching call, counted since
//! the script was armed, and the `times - 1` calls behind it (`x*`: all) suffer the fault. `op` is
//! `issue` (any call that creates a key), `revoke` (deleting a key or its account), `list`,
//! `get`, `probe`, `chat` or `tool`. When several scripts match a call, the oldest decides.
//!
//! # Faults
//!
//! "Executed" says whether the call takes effect. A birth that no answer names has
//! `"answered":false` in the ledger.
//!
//! | fault | for | executed | what the caller sees |
//! |---|---|---|---|
//! | `ack-lost` | all | yes | the connection ends without an answer |
//! | `dropped` | all | no | the connection ends without an answer |
//! | `late:ms` | issue, revoke | after ms | the connection ends at once without an answer |
//! | `stall:ms` | all | after ms; a key's request at once | nothing for ms, then the usual answer |
//! | `rate-limited[:ms]` | all | no | 429 with `Retry-After` and `retry-after-ms` (1000) |
//! | `server-error` | all | no | 500 |
//! | `quota` | issue, probe, chat, tool | no | 400, a limit of keys is reached |
//! | `forbidden` | all | no | 403, a scope is missing; the key is alive |
//! | `truncated` | all | yes | 200, the body breaks off half-way |
//! | `html-body` | all | yes | 200 with an HTML page |
//! | `empty-body` | all | yes | 200 with an empty body |
//! | `huge-body` | all | yes | 200 with 10 MiB of JSON |
//! | `bad-key` | issue | yes | 200; the secret authenticates nowhere, the id is the new key's |
//! | `foreign-key` | issue | no | 200 with id and secret of another project's (else label's) key |
//! | `void-on-issue` | issue | yes | 200; the project's older keys are dead, whatever the class |
//! | `eventual-list:ms` | issue | yes | 200; the key works, listings lack it for ms |
//! | `key-newline` | issue | yes | 200; a line feed inside the secret |
//! | `key-nul` | issue | yes | 200; a NUL inside the secret |
//! | `key-non-ascii` | issue | yes | 200; letters outside ASCII inside the secret |
//! | `key-empty` | issue | yes | 200; the secret is empty |
//! | `key-long` | issue | yes | 200; 100 000 letters too many behind the secret |
//! | `id-missing` | issue | yes | 200 without the key's id |
//! | `duplicate-id` | issue | yes | 200 with the new secret and the id of an older key |
//! | `slow-revoke:ms` | revoke | after ms | 200 at once; the key works for ms, unlisted |
//!
//! A delay does not survive the simulator: a late call that was not due is never executed, a
//! slow revoke is carried out when the next simulator opens the directory, and a hidden key is
//! listed by it. Armed scripts are forgotten.
//!
//! # Control
//!
//! With the admin key, from another process:
//!
//! | call | does |
//! |---|---|
//! | `POST /_simulator/faults` | arms one script or a list, each as text or as an object `{op, project?, nth?, times?, fault, millis?}` |
//! | `DELETE /_simulator/faults` | disarms all |
//! | `GET /_simulator/state` | shows a [`Snapshot`] |
//! | `POST /_simulator/keys` | makes a key that no call asked for: `{project, account?, name, secret?, expires_in_seconds?}` |
//! | `POST /_simulator/keys/{id}/kill` | kills a key as a vendor does on its own account |

mod config;
mod fault;
mod http;
mod issue;
mod keys;
pub mod ledger;
pub mod limits;
mod requests;
mod script;
mod secret;
mod server;
mod state;
mod tools;

pub use config::{ADMIN_KEY_DEFAULT, Builder, Class, ClassError, KeyDelete, Pace};
pub use fault::{Fault, Op};
pub use script::{Script, ScriptError};
pub use secret::Secret;
pub use server::{Refused, Seeded, Simulator, StartError};
pub use state::{KeyView, Snapshot};
