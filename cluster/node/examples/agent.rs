//! An agent that survives the rotation of its key. It needs a provider that speaks OpenAI's API:
//! `KEYBATON_EXAMPLE_URL` (with /v1) and `OPENAI_ADMIN_KEY`; `keybaton simulator` serves one.
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::{env, error::Error};

use keybaton::{Node, Policy, Program, Progress, Step, StepContext};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The conversation so far: all that the task knows, and never a key.
#[derive(Serialize, Deserialize, Default)]
struct Talk(Vec<String>);

/// Where it asks.
struct Agent(String);

impl Program for Agent {
    const KIND: &'static str = "example-agent/1";
    type State = Talk;
    type Outcome = String;

    async fn step(&self, talk: &Talk, ctx: &StepContext<'_>) -> Step<String> {
        let question = format!("{} things were said; what next?", talk.0.len());
        let body = json!({"model": "any", "messages": [{"role": "user", "content": question}]});
        let answer: Value = ctx.post_json(&self.0, &body).await?;
        let said = answer["choices"][0]["message"]["content"].to_string();
        let is_last = talk.0.len() == 5;
        Ok(if is_last { Progress::Done(said) } else { Progress::Continue(said) })
    }

    fn apply(&self, talk: &mut Talk, said: String) {
        talk.0.push(said);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("KEYBATON_EXAMPLE_URL")?;
    let admin_key = env::var("OPENAI_ADMIN_KEY")?;
    let tenants = [("acme", "proj-acme", "agents")];
    let openai = keybaton::provider("openai", Some(&url), &admin_key, &tenants)?;
    let dir = tempfile::tempdir()?;
    let node = Node::builder(dir.path().join("node"))
        .provider("openai", openai, Policy::default())
        .program(Agent(format!("{url}/chat/completions")))
        .start()
        .await?;
    let task = node.spawn::<Agent>("acme", "openai", "talk-1", Talk::default()).await?;
    node.rotate("acme", "openai", "to show it").await?;
    println!("{} answers, and the key was rotated meanwhile", task.join().await?.0.len());
    Ok(())
}
