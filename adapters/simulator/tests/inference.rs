//! What a tenant's key opens, and what happens when it dies.

use std::time::Duration;

use keybaton_simulator::Pace;
use keybaton_simulator::ledger::{Event, Outcome};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Vendor, answer, end, text};

/// Stays open until something ends it.
fn endless() -> Value {
    json!({"latency_ms": 0, "chunks": 100_000, "chunk_interval_ms": 5})
}

#[tokio::test]
async fn an_answer_depends_on_nothing_but_the_request() {
    let vendor = Vendor::start().await;
    let (_, first) = vendor.key("p", "label-1").await;
    let (_, second) = vendor.key("p", "label-2").await;
    let pace = json!({"latency_ms": 0, "chunks": 4});
    let mut answers = Vec::new();
    for secret in [&first, &second] {
        let sent = vendor.chat(secret, false, pace.clone()).await.unwrap();
        answers.push(answer(sent).await);
    }
    assert_eq!(answers[0], answers[1]);
    let (status, body) = &answers[0];
    assert_eq!((*status, &body["object"]), (200, &json!("chat.completion")));
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["completion_tokens"], 4);
    let other = vendor.chat(&first, false, json!({"latency_ms": 1, "chunks": 4})).await.unwrap();
    assert_ne!(answer(other).await.1["choices"], body["choices"], "another request");
    vendor.stop().await;
}

#[tokio::test]
async fn a_stream_comes_in_chunks_and_ends_with_done() {
    let vendor = Vendor::start().await;
    let (_, secret) = vendor.key("p", "label").await;
    let body = json!({
        "model": "m\"odel", "messages": [], "stream": true,
        "stream_options": {"include_usage": true},
        "simulate": {"latency_ms": 0, "chunks": 5, "chunk_interval_ms": 1},
    });
    let path = "/v1/chat/completions";
    let sent = vendor.send(Method::POST, path, &secret, Some(body.clone())).await.unwrap();
    assert_eq!(sent.headers()["content-type"], "text/event-stream");
    let stream = sent.text().await.unwrap();
    let events: Vec<&str> =
        stream.split_terminator("\n\n").map(|it| it.strip_prefix("data: ").unwrap()).collect();
    assert_eq!(events.len(), 5 + 3, "chunks, stop, usage, done: {stream}");
    assert_eq!(events[7], "[DONE]");
    let chunks: Vec<Value> =
        events[..7].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert!(chunks.iter().all(|chunk| chunk["model"] == "m\"odel"));
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(chunks[5]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks[6]["usage"]["completion_tokens"], 5);
    assert_eq!(vendor.only_end(), (Outcome::Ok, 200, true));
    vendor.stop().await;
}

#[tokio::test]
async fn a_request_says_in_the_ledger_whose_it_is() {
    let vendor = Vendor::start().await;
    let (id, secret) = vendor.key("p", "label").await;
    let sent = vendor
        .request(Method::POST, "/v1/tools/mail", &secret)
        .header("x-agent-tenant", "tenant-a")
        .header("x-agent-task", "task-7")
        .header("x-agent-step", "3")
        .header("x-agent-stage", "draining")
        .header("idempotency-key", "task-7/3")
        .send();
    assert_eq!(sent.await.unwrap().status(), 200);
    let started = Event::RequestStarted {
        req: 1,
        path: "/v1/tools/mail".into(),
        project: Some("p".into()),
        key_id: Some(id),
        tenant: Some("tenant-a".into()),
        task: Some("task-7".into()),
        step: Some(3),
        idem: Some("task-7/3".into()),
        streaming: false,
        stage: Some("draining".into()),
    };
    assert!(vendor.events().contains(&started));
    vendor.stop().await;
}

#[tokio::test]
async fn revoking_a_key_cuts_its_running_stream() {
    let vendor = Vendor::start().await;
    let (id, secret) = vendor.key("p", "old").await;
    let (_, other) = vendor.key("p", "new").await;
    let mut stream = vendor.chat(&secret, true, endless()).await.unwrap();
    let mut survivor = vendor.chat(&other, true, endless()).await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some(), "the stream runs");
    vendor.revoke("p", &id).await;
    let broken = async {
        while stream.chunk().await?.is_some() {}
        Ok::<(), reqwest::Error>(())
    };
    broken.await.expect_err("the stream breaks off");
    assert!(survivor.chunk().await.unwrap().is_some(), "the other key's stream goes on");
    let events = vendor.events();
    let died = events.iter().position(|it| matches!(it, Event::KeyDied { .. })).unwrap();
    assert_eq!(end(events[died + 1].clone()), Some((Outcome::Cut, 0, true)));
    drop(survivor);
    vendor.until(|state| state.requests_open == 0).await;
    vendor.stop().await;
}

#[tokio::test]
async fn revoking_a_key_cuts_a_request_that_waits_for_its_answer() {
    let vendor = Vendor::start().await;
    let (id, secret) = vendor.key("p", "label").await;
    let waiting = vendor.chat(&secret, false, json!({"latency_ms": 600_000}));
    let revoking = async {
        vendor.until(|state| state.requests_open == 1).await;
        vendor.revoke("p", &id).await
    };
    let (sent, (status, _)) = tokio::join!(waiting, revoking);
    sent.expect_err("no answer comes");
    assert_eq!(status, 200);
    assert_eq!(vendor.only_end(), (Outcome::Cut, 0, true));
    vendor.stop().await;
}

#[tokio::test]
async fn a_caller_that_leaves_is_noticed() {
    let vendor = Vendor::start().await;
    let (_, secret) = vendor.key("p", "label").await;
    let mut stream = vendor.chat(&secret, true, endless()).await.unwrap();
    stream.chunk().await.unwrap();
    drop(stream);
    vendor.until(|state| state.requests_open == 0).await;
    assert_eq!(vendor.only_end(), (Outcome::ClientGone, 0, true));

    let waiting = vendor.chat(&secret, false, json!({"latency_ms": 600_000}));
    tokio::select! {
        sent = waiting => panic!("it waits: {sent:?}"),
        () = vendor.until(|state| state.requests_open == 1) => {}
    }
    vendor.until(|state| state.requests_open == 0).await;
    let ends: Vec<_> = vendor.events().into_iter().filter_map(end).collect();
    assert_eq!(ends[1], (Outcome::ClientGone, 0, true));
    vendor.stop().await;
}

#[tokio::test]
async fn a_dead_unknown_or_missing_key_is_refused_before_anything_is_executed() {
    let vendor = Vendor::start().await;
    let (id, secret) = vendor.key("p", "label").await;
    vendor.revoke("p", &id).await;
    for key in [&secret, "sk-unknown", ""] {
        let sent = vendor.send(Method::POST, "/v1/tools/mail", key, None).await.unwrap();
        let (status, error) = answer(sent).await;
        assert_eq!((status, &error["error"]["code"]), (401, &json!("invalid_api_key")));
    }
    let known: Vec<bool> = vendor
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::RequestStarted { key_id, .. } => Some(key_id.as_ref() == Some(&id)),
            _ => None,
        })
        .collect();
    assert_eq!(known, [true, false, false], "a dead key is told from an unknown one");
    let ends: Vec<_> = vendor.events().into_iter().filter_map(end).collect();
    assert_eq!(ends, [(Outcome::Refused, 401, false); 3]);
    vendor.stop().await;
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_not_executed() {
    let vendor = Vendor::start().await;
    let (_, secret) = vendor.key("p", "label").await;
    let path = "/v1/chat/completions";
    for body in [
        json!({}),
        json!({"model": "m"}),
        json!({"model": "m", "messages": [], "simulate": {"latency_ms": 600_001}}),
        json!({"model": "m", "messages": [], "simulate": {"chunks": 100_001}}),
    ] {
        let sent = vendor.send(Method::POST, path, &secret, Some(body)).await.unwrap();
        assert_eq!(sent.status(), 400);
    }
    let huge = json!({"model": "m", "messages": ["x".repeat(1024 * 1024)]});
    let sent = vendor.send(Method::POST, path, &secret, Some(huge)).await.unwrap();
    assert_eq!(sent.status(), 413, "refused while it is read");
    let tool = vendor.request(Method::POST, "/v1/tools/mail", &secret);
    let sent = tool.header("x-agent-task", "x".repeat(513)).send().await.unwrap();
    assert_eq!(sent.status(), 400);
    let ends: Vec<_> = vendor.events().into_iter().filter_map(end).collect();
    assert_eq!(ends, [(Outcome::Failed, 400, false); 5]);
    vendor.stop().await;
}

#[tokio::test]
async fn a_tool_asked_twice_happens_twice_unless_it_is_idempotent() {
    let vendor = Vendor::start().await;
    let (_, secret) = vendor.key("p", "label").await;
    let call = async |idem: &str, is_idempotent: &str| {
        let request = vendor
            .request(Method::POST, "/v1/tools/mail", &secret)
            .header("idempotency-key", idem)
            .header("x-tool-idempotent", is_idempotent)
            .json(&json!({"to": "someone"}));
        let (status, body) = answer(request.send().await.unwrap()).await;
        assert_eq!(status, 200);
        (body["executed"] == true, body["executions"].as_u64().unwrap(), text(&body["result"]))
    };
    let (executed, count, result) = call("step-1", "false").await;
    assert_eq!((executed, count), (true, 1));
    assert_eq!(call("step-1", "false").await, (true, 2, result.clone()));
    assert_eq!(call("step-1", "true").await, (false, 2, result.clone()));
    assert_eq!(call("step-2", "true").await, (true, 1, result.clone()));
    let executed: Vec<bool> =
        vendor.events().into_iter().filter_map(end).map(|(_, _, executed)| executed).collect();
    assert_eq!(executed, [true, true, false, true]);

    let dir = vendor.stop().await;
    let vendor = Vendor::on(dir, |it| it).await;
    let request = vendor
        .request(Method::POST, "/v1/tools/mail", &secret)
        .header("idempotency-key", "step-2")
        .header("x-tool-idempotent", "true");
    let (_, body) = answer(request.send().await.unwrap()).await;
    assert_eq!(body["executed"], false, "a restart does not forget a side effect");
    vendor.stop().await;
}

#[tokio::test]
async fn stopping_lets_a_short_request_end_and_ends_a_long_one_as_failed() {
    let pace = Pace { latency: Duration::from_millis(200), ..Pace::default() };
    let vendor = Vendor::with(|it| it.pace(pace)).await;
    let (_, secret) = vendor.key("p", "label").await;
    let mut long = vendor.chat(&secret, true, endless()).await.unwrap();
    long.chunk().await.unwrap();
    let path = vendor.simulator.ledger_path().to_owned();
    let short = vendor
        .request(Method::POST, "/v1/chat/completions", &secret)
        .json(&json!({"model": "m", "messages": []}));
    let short = tokio::spawn(short.send());
    vendor.until(|state| state.requests_open == 2).await;
    let _dir = vendor.stop().await;
    assert_eq!(short.await.unwrap().unwrap().status(), 200);
    let ends: Vec<_> = keybaton_simulator::ledger::read(&path)
        .unwrap()
        .into_iter()
        .filter_map(|line| end(line.event))
        .collect();
    assert_eq!(ends, [(Outcome::Ok, 200, true), (Outcome::Failed, 0, true)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_at_once_all_end_well() {
    let vendor = Vendor::start().await;
    let mut secrets = Vec::new();
    for n in 0..20 {
        secrets.push(vendor.key(&format!("p{n}"), "label").await.1);
    }
    let pace = json!({"latency_ms": 1, "chunks": 5, "chunk_interval_ms": 20});
    let streams = (0..300).map(|n| {
        let secret = &secrets[n % secrets.len()];
        let pace = pace.clone();
        async { vendor.chat(secret, true, pace).await.unwrap().text().await.unwrap() }
    });
    let texts = futures::future::join_all(streams).await;
    assert!(texts.iter().all(|text| text.ends_with("data: [DONE]\n\n")));
    let ends: Vec<_> = vendor.events().into_iter().filter_map(end).collect();
    assert_eq!(ends, [(Outcome::Ok, 200, true); 300]);
    vendor.stop().await;
}
