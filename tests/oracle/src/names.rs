//! Short numbers for names, so that millions of lines cost no text each.

use std::collections::HashMap;

/// A name's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(u32);

/// A task: tenant and task id.
pub(crate) type TaskKey = (Name, Name);

/// A key: project and key id.
pub(crate) type KeyKey = (Name, Name);

/// All names met so far.
#[derive(Default)]
pub(crate) struct Names {
    numbers: HashMap<Box<str>, Name>,
    texts: Vec<Box<str>>,
}

impl Names {
    /// The number of `text`.
    pub(crate) fn of(&mut self, text: &str) -> Name {
        if let Some(name) = self.numbers.get(text) {
            return *name;
        }
        let number = u32::try_from(self.texts.len()).expect("a run has fewer than 2^32 names");
        let name = Name(number);
        self.numbers.insert(text.into(), name);
        self.texts.push(text.into());
        name
    }

    /// The text behind a number.
    pub(crate) fn text(&self, name: Name) -> &str {
        &self.texts[name.0 as usize]
    }

    /// A task as people read it.
    pub(crate) fn task(&self, (tenant, task): TaskKey) -> String {
        format!("{}/{}", self.text(tenant), self.text(task))
    }

    /// A key as people read it.
    pub(crate) fn key(&self, key: Option<KeyKey>) -> String {
        match key {
            Some((project, id)) => format!("key {} of {}", self.text(id), self.text(project)),
            None => "a key that nobody knows".to_owned(),
        }
    }
}
