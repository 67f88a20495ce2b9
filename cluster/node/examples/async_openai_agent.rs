//! An agent on `async-openai`, whose `Config::headers` is synchronous.
//!
//! A synchronous hook cannot wait at a paused gate. So the waiting is done before: the agent takes
//! a lease for the call, and hands the client a `Config` that holds it. While the gate is paused
//! the agent waits in `call().await`; the client never sees a missing key. The lease ends with the
//! client, after the last byte.
//!
//! It needs `KEYBATON_EXAMPLE_URL` (with /v1) and `OPENAI_ADMIN_KEY`, as the other example does.
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::env;
use std::error::Error;

use async_openai::Client;
use async_openai::config::Config;
use async_openai::types::chat::{
    ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequestArgs,
};
use keybaton::{
    CallLease, CredentialHandle, Node, Policy, Program, Progress, Step, StepContext, StepError,
};
use reqwest::header::HeaderMap;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// One call's lease in the shape that `async-openai` asks for.
struct Leased {
    handle: CredentialHandle,
    lease: CallLease,
    url: String,
    /// The key is only ever in the header; whoever asks for it here gets this.
    no_key: SecretString,
}

impl Leased {
    async fn take(handle: &CredentialHandle, url: &str) -> Result<Self, StepError> {
        let lease = handle.call().await?;
        let (handle, url) = (handle.clone(), url.to_owned());
        Ok(Self { handle, lease, url, no_key: SecretString::from("held by keybaton") })
    }
}

impl Config for Leased {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // Checks the fence right before the request is written. A fenced node sends no key: the
        // provider refuses the call with 401, which means that it was not executed.
        if let Err(error) = self.handle.authorize(&self.lease, &mut headers) {
            tracing::warn!(%error, "the call goes out without a key and will be refused");
        }
        headers
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    fn api_base(&self) -> &str {
        &self.url
    }

    fn api_key(&self) -> &SecretString {
        &self.no_key
    }
}

#[derive(Serialize, Deserialize, Default)]
struct Talk(Vec<String>);

struct Agent {
    url: String,
}

impl Program for Agent {
    const KIND: &'static str = "example-async-openai/1";
    type State = Talk;
    type Outcome = String;

    async fn step(&self, talk: &Talk, context: &StepContext<'_>) -> Step<String> {
        let again = |error: async_openai::error::OpenAIError| StepError::Again(error.to_string());
        let question = format!("{} things were said; what next?", talk.0.len());
        let message = ChatCompletionRequestUserMessageArgs::default().content(question).build();
        let request = CreateChatCompletionRequestArgs::default()
            .model("any")
            .messages([message.map_err(again)?.into()])
            .build()
            .map_err(again)?;
        let config = Leased::take(context.credential, &self.url).await?;
        let client = Client::build(context.http.clone(), config);
        let answer = client.chat().create(request).await.map_err(again)?;
        let said = answer.choices.into_iter().find_map(|choice| choice.message.content);
        let said = said.unwrap_or_default();
        Ok(if talk.0.len() < 5 { Progress::Continue(said) } else { Progress::Done(said) })
    }

    fn apply(&self, talk: &mut Talk, said: String) {
        talk.0.push(said);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (url, admin_key) = (env::var("KEYBATON_EXAMPLE_URL")?, env::var("OPENAI_ADMIN_KEY")?);
    let tenants = [("acme", "proj-acme", "agents")];
    let openai = keybaton::provider("openai", Some(&url), &admin_key, &tenants)?;
    let dir = tempfile::tempdir()?;
    let node = Node::builder(dir.path().join("node"))
        .provider("openai", openai, Policy::default())
        .program(Agent { url })
        .start()
        .await?;
    let task = node.spawn::<Agent>("acme", "openai", "talk-1", Talk::default()).await?;
    node.rotate("acme", "openai", "to show it").await?;
    println!("{} answers, and the key was rotated meanwhile", task.join().await?.0.len());
    Ok(())
}
